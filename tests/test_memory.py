"""What a promheal that has nothing to do holds and does, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import servers
from bench.memory import held, idle, use
from tests.chain import wait_until
from tests.figures import Record, scaled
from tests.tools import REPOSITORY

NEEDED = {
    "bcrypt", "blinker", "click", "cronsim", "flask", "gunicorn", "itsdangerous", "jinja2",
    "markupsafe",
    "msgspec", "prometheus_client", "promql_parser", "re2", "typing_extensions",
    "werkzeug", "yaml",
}  # fmt: skip
"""What each server imports beside Python's own library, as docs/explanation/memory.md has it."""
BEFORE_IT_SERVES = """
import sys
from receiver.web.application import Application, Options, Proxied
from pathlib import Path
folder = Path(sys.argv[1])
options = Options(config_file=folder / "promheal.yml", storage_url=f"sqlite:///{folder}/p.db")
Application(options, None, {}, Proxied(), loopback=True).close()
ours = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
print(*ours)
"""


def imported(folder: Path) -> set[str]:
    told = subprocess.check_output(
        [sys.executable, "-c", BEFORE_IT_SERVES, str(folder)], text=True, cwd=REPOSITORY
    )
    # Of an editable installation, of Cython, of setuptools, and what gunicorn takes if it is there.
    foreign = ("__", "_", "cython_", "distutils", "setproctitle")
    return {name for name in told.split() if not name.startswith(foreign)} - {"receiver"}


def test_a_configuration_imports_what_it_uses(tmp_path: Path) -> None:
    servers.configure(tmp_path)
    assert imported(tmp_path) == NEEDED


@pytest.mark.alone
def test_at_rest_it_is_small_and_quiet(tmp_path: Path, record_property: Record) -> None:
    with servers.promheal(servers.configure(tmp_path)) as server:
        command = Path(f"/proc/{server.pid}/cmdline")
        wait_until(lambda: b"caretaker.py" in command.read_bytes(), what="its master is small")
        *each, whole = held(server)
        assert whole["pss"] <= 50, each
        assert whole["threads"] <= 25, each
        use(server)
        server.settle()
        found = idle(server, scaled(5, 600))
        record_property("CPU, %", found["cpu_percent"])
        record_property("wake-ups a second", found["wakeups_per_second"])
        assert found["wakeups_per_second"] < 5
        # What it needed for that it gives back every ten seconds.
        wait_until(lambda: held(server)[-1]["pss"] <= 50, within=20, what="it is small again")
        record_property("PSS, MiB", held(server)[-1]["pss"])
