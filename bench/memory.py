"""What does promheal hold and do at rest, by process? And how else could its master wait?"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import servers
from bench.load import get, post, show
from bench.servers import Server

WAYS = {
    "in the caretaker": "",
    "as gunicorn's master alone": '''
from pathlib import Path
from receiver.web.server import caretaker
master = Path(__file__).with_name("master.py")
packages = [path for path in sys.path if path.endswith("site-packages")]
master.write_text(f"""import runpy, sys
sys.path += {packages}
import gunicorn.app.base, gunicorn.arbiter, gunicorn.glogging
runpy.run_path({caretaker.__file__!r}, None, "__main__")
""")
caretaker.__file__ = str(master)
''',
    "loaded, and frozen before the fork": """
import gc
from receiver.web.server.arbiter import InPlaceArbiter
InPlaceArbiter._settled = lambda self: False
spawn = InPlaceArbiter.spawn_worker
InPlaceArbiter.spawn_worker = lambda self: (gc.collect(), gc.freeze(), spawn(self))[2]
""",
    "loaded, as it was": """
from receiver.web.server.arbiter import InPlaceArbiter
InPlaceArbiter._settled = lambda self: False
""",
}
"""How the master waits, as what makes this version do so."""
SETTLED = 3.0
"""Seconds after which a master has become small."""
_MAP = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ (\S+) (\S+) (\d+)")


def held(server: Server) -> list[dict[str, Any]]:
    """Return a row of each process, in MiB, and one of all together.

    PSS shares a library with whatever else the machine runs; `alone` counts each file once, as if
    nothing else did.
    """
    rows: list[dict[str, Any]] = []
    files = dict[tuple[str, str], int]()
    for number, pid in enumerate(server.pids()):
        sums = dict.fromkeys(("Pss", "Pss_Anon"), 0)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0])
        for file, size in _mapped(pid).items():
            files[file] = max(files.get(file, 0), size)
        rows.append(
            {
                "process": ("master", "worker")[number] if number < 2 else "other",
                "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
                "pss": round(sums["Pss"] / 1024, 1),
                "its own": round(sums["Pss_Anon"] / 1024, 1),
                "alone": "",
            }
        )
    whole = {
        name: round(sum(row[name] for row in rows), 1) for name in ("threads", "pss", "its own")
    }
    alone = round(whole["its own"] + sum(files.values()) / 1024, 1)
    return [*rows, {"process": "all", **whole, "alone": alone}]


def _mapped(pid: int) -> dict[tuple[str, str], int]:
    """Return the KiB of each mapped file that are in memory, without what was written to."""
    found = dict[tuple[str, str], int]()
    file, resident = ("", "0"), 0
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if (begins := _MAP.match(line)) is not None:
            file = begins[2], begins[3]
        elif line.startswith("Rss:"):
            resident = int(line.split()[1])
        elif line.startswith("Anonymous:") and file[1] != "0":
            found[file] = found.get(file, 0) + resident - int(line.split()[1])
    return found


def use(server: Server) -> None:
    """Have it scraped, looked at and notified, of what leaves nothing to be done."""
    for path in ("/metrics", "/", "/api/status", "/api/runs"):
        for _ in range(20):
            with urllib.request.urlopen(server.url + path, timeout=30) as answer:
                answer.read()
    for number in range(100):
        post(server, "BenchUnmatched", [f"used-{number}"])
    get(server, "/api/alerts")


def idle(server: Server, seconds: float) -> dict[str, float]:
    """Return what it does when nothing is to be done."""
    used, waked, start = server.cpu(), server.wakeups(), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - start
    return {
        "seconds": round(passed),
        "cpu_percent": round(100 * (server.cpu() - used) / passed, 4),
        "wakeups_per_second": round((server.wakeups() - waked) / passed, 2),
    }


@contextmanager
def changed(folder: Path, code: str) -> Iterator[Server]:
    """Run a promheal of which *code* changes something at the start."""
    servers.configure(folder)
    script = folder / "changed.py"
    script.write_text(f"import sys\n{code}\nfrom receiver.cli import main\nmain()\n")
    with servers.promheal(folder, script=script) as server:
        time.sleep(SETTLED)
        yield server


def ways(folder: Path) -> None:
    rows = []
    for number, (way, code) in enumerate(WAYS.items()):
        with changed(folder / f"way-{number}", code) as server:
            fresh = held(server)
            use(server)
            rows += [
                {"the master waits": way, **before, "pss, used": after["pss"]}
                for before, after in zip(fresh, held(server), strict=True)
            ]
    show("Memory in MiB after the start, and after it was used", rows)


def at_rest(folder: Path, seconds: float) -> None:
    with servers.promheal(servers.configure(folder / "rest")) as server:
        time.sleep(SETTLED)
        show("Memory in MiB, after the start", held(server))
        use(server)
        server.settle()
        show("and after it was used", held(server))
        show("What it does then, when nothing is to be done", [idle(server, seconds)])
        show("Memory in MiB, after that", held(server))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench memory", description=__doc__)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds at rest (60)")
    parser.add_argument("--ways", action="store_true", help="only compare how the master waits")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="promheal-bench-") as folder:
        if options.ways:
            ways(Path(folder))
        else:
            at_rest(Path(folder), options.idle)
