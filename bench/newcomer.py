"""Walk the newcomer's two paths in a clean clone, and time them: `python -m bench.newcomer`.

The demo, and the tutorial: its files are written and its commands executed as the page has them,
and nothing else. Of the machine's state only pip's and apt's caches help. The tutorial's ports
(3001, 8000, 9090, 9093) must be free. The clock runs from `git clone`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
URL = "https://github.com/promheal/promheal.git"
PATIENCE = 900.0
"""Seconds for each path."""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w.]+\.(?:conf|yml|json))`")
_SICK = "curl -X POST"
_HEALED = """
until promheal runs -o json | grep -q '"outcome": "healed"'; do sleep 0.5; done
echo HEALED
kill $serve; wait $serve || true
supervisorctl -c supervisord.conf shutdown
"""


def environment(home: Path) -> dict[str, str]:
    """As a new user has it, but that the project is cloned from here."""
    home.mkdir()
    return {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{REPOSITORY}.insteadOf",
        "GIT_CONFIG_VALUE_0": URL,
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
    }


def tutorial() -> str:
    """Return the tutorial as a script, up to the proof of its first heal."""
    page = (REPOSITORY / "docs/tutorial/first-heal.md").read_text()
    script, end = ["set -e"], 0
    for block in _BLOCK.finditer(page):
        language, text = block[1], block[2]
        if language != "sh":
            name = _FILE.findall(page[end : block.start()])[-1]
            script.append(f"cat > {name} <<'EOF'\n{text}EOF")
        elif text.startswith("promheal serve"):
            script.append(f"{text.strip()} & serve=$!")
            script.append("until curl -sf http://127.0.0.1:3001/-/ready; do sleep 0.2; done")
        elif text.startswith(_SICK):
            return "\n".join([*script, text, _HEALED])
        elif text.startswith("promheal explain"):
            script.append(f"{text.strip()} || true")
        else:
            script.append(text)
        end = block.end()
    sys.exit("the tutorial makes nothing sick")


def demo() -> str:
    return f"set -e\ngit clone {URL}\ncd promheal\nmake demo"


def walk(name: str, script: str, sign: str, folder: Path) -> float:
    """Run *script* until it says *sign*, and to its end; return the seconds until the sign."""
    folder.mkdir()
    begin, seen = time.monotonic(), 0.0
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=environment(folder / "home"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if sign in line and not seen:
                seen = time.monotonic() - begin
            if time.monotonic() - begin > PATIENCE:
                process.kill()
    if not seen or process.returncode != 0:
        sys.exit(f"{name}: exit code {process.returncode}\n{''.join(said[-40:])}")
    print(f"{name}: {seen:.0f} s from git clone to the proof of the first heal", flush=True)
    return seen


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        walk("make demo", demo(), "healed", Path(folder) / "demo")
        walk("tutorial", tutorial(), "HEALED", Path(folder) / "tutorial")


if __name__ == "__main__":
    main()
