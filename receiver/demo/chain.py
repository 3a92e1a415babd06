"""What runs during the demo? supervisord and, below it, all else, in one temporary folder.

supervisord itself is run by `receiver.process`, which vouches that nothing of it lives on: not
after `close()`, and not when the demo is killed.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Final

import msgspec

from receiver.clients.http_upstream import Upstream
from receiver.errors import ActionError, ConfigError
from receiver.process import run
from receiver.services import ServiceState
from receiver.services.supervisor import Supervisor

PROGRAMS: Final = ("shop", "prometheus", "alertmanager", "promheal")
"""What listens, each on a port of its own."""
ESSENTIAL: Final = ("prometheus", "alertmanager", "promheal")
"""What nobody restarts: where one of these ends, the demo is over."""

_CONFIGURATION: Final = (
    "supervisord.conf", "prometheus.yml", "rules.yml", "alertmanager.yml", "promheal.yml",
    "services.yml", "healing_strategies.yml",
)  # fmt: skip
_READY: Final = {
    "shop": "/metrics",
    "prometheus": "/-/ready",
    "alertmanager": "/-/ready",
    "promheal": "/-/ready",
}
_TOOLS: Final = Path(".tools/usr/bin")
"""Where `make tools` puts Debian's programs, below the folder that make is called in."""
_NAMES: Final = {
    "prometheus": ("prometheus",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
}
"""What the programs are called, in Debian first."""

_START: Final = 60.0  # seconds for all programs to be ready, on a machine that is busy
_ATTEMPTS: Final = 3
"""With ports of their own: another program may take a free one before ours does."""
_TAKEN: Final = "address already in use"
_POLL: Final = 0.1  # seconds
_ASK: Final = 2.0  # seconds for one question
_CHECK_EVERY: Final = 1.0  # seconds between two questions whether all still run
_LONG: Final = 30 * 86_400.0  # seconds; nobody looks at a demo for longer
_MAX_SOCKET: Final = 90
"""Characters of a socket's path: unix(7) allows 107, of which supervisord adds its pid to some."""
_TAIL: Final = 8
"""Lines of a log that tell why its program failed."""


class DemoError(Exception):
    """It did not come to its end. `program` is the one whose log says more, or empty."""

    def __init__(self, message: str, *, program: str = "", taken: bool = False) -> None:
        super().__init__(message)
        self.program = program
        self.taken = taken
        """Another program listens where ours should."""


class Programs(msgspec.Struct, frozen=True):
    """What is started that is not ours: paths."""

    prometheus: str
    alertmanager: str


def find_programs(folder: Path | None = None) -> Programs:
    """Find what is needed, on PATH and where `make tools` puts it below *folder* (the current one).

    Raises ConfigError that says what to install.
    """
    tools = str(((folder or Path.cwd()) / _TOOLS).resolve())
    found: dict[str, str] = {}
    missing = []
    for name, candidates in _NAMES.items():
        paths = (shutil.which(each, path=path) for path in (None, tools) for each in candidates)
        path = next((path for path in paths if path), None)
        if path is None:
            missing.append(candidates[0])
        else:
            found[name] = str(Path(path).absolute())
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not found on PATH or in {_TOOLS}; in promheal's source run "
            "`make tools`, elsewhere `apt-get install prometheus prometheus-alertmanager`"
        )
    if find_spec("supervisor") is None:
        raise ConfigError(
            "supervisord not found beside this Python; in promheal's source run `make install`, "
            f"elsewhere `{sys.executable} -m pip install supervisor`"
        )
    return Programs(**found)


class Chain:
    """The programs of the demo, in *folder*, which must exist and is not removed."""

    def __init__(self, folder: Path, programs: Programs) -> None:
        self.folder = folder
        self.addresses: dict[str, str] = {}
        """HOST:PORT of each of PROGRAMS."""
        self._programs = programs
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._end = ""  # why supervisord ended by itself
        self._checked = 0.0  # by the monotonic clock
        self._asked: dict[str, Upstream] = {}
        if len(str(folder)) > _MAX_SOCKET:
            raise ConfigError(f"{folder} is too long a path for a socket; set TMPDIR=/tmp")

    def url(self, program: str) -> str:
        return f"http://{self.addresses[program]}"

    def start(self, waiting: Callable[[str], None]) -> None:
        """Start all at once; return when all are ready. *waiting* is told for what, in words.

        Raises DemoError.
        """
        for attempt in range(_ATTEMPTS):
            self._launch()
            try:
                return self._wait_ready(waiting)
            except DemoError as error:
                self.close()
                if not error.taken or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError

    def check(self) -> None:
        """Raise DemoError when a program has ended on which all else rests; looks once a second."""
        if self._thread is None or not self._thread.is_alive():
            raise DemoError(f"supervisord ended: {self._end or 'no word why'}")
        if time.monotonic() - self._checked < _CHECK_EVERY:
            return
        self._checked = time.monotonic()
        for name in ESSENTIAL:
            if self._state(name) in {ServiceState.FAILED, ServiceState.STOPPED}:
                taken = _TAKEN in self.log(name, lines=50).lower()
                why = "another program took its port" if taken else "its log says why"
                raise DemoError(f"{name} ended: {why}", program=name, taken=taken)

    def log(self, program: str, *, lines: int = _TAIL) -> str:
        """Return the last lines that *program* wrote."""
        try:
            text = (self.folder / f"{program}.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        """End all of it; returns when nothing lives any more."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def _launch(self) -> None:
        self.addresses = dict(zip(PROGRAMS, _free_addresses(len(PROGRAMS)), strict=True))
        self._asked = {name: Upstream(self.url(name), timeout=_ASK) for name in PROGRAMS}
        values = {
            **self.addresses,
            "shop_port": self.addresses["shop"].rpartition(":")[2],
            "folder": str(self.folder),
            "python": _word(sys.executable),
            "prometheus_program": _word(self._programs.prometheus),
            "alertmanager_program": _word(self._programs.alertmanager),
        }
        for name in _CONFIGURATION:
            text = files("receiver.demo").joinpath(name).read_text(encoding="utf-8")
            # Prometheus' own templates have `$labels`, which is left as it is.
            filled = Template(text).safe_substitute(values)
            (self.folder / name).write_text(filled, encoding="utf-8")
        self._ending.clear()
        self._end = ""
        self._checked = time.monotonic()
        # A daemon: should the demo end without close(), it must not be kept waiting by this thread;
        # all that runs ends with the demo then.
        self._thread = threading.Thread(target=self._run, name="supervisord", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        argv = [sys.executable, "-m", "supervisor.supervisord", "-c", "supervisord.conf"]
        try:
            end = run(argv, timeout=_LONG, cwd=str(self.folder), cancelled=self._ending.is_set)
        except ActionError as error:
            self._end = f"{error}\n{error.output}".strip()
        else:
            self._end = end.output.strip()

    def _wait_ready(self, waiting: Callable[[str], None]) -> None:
        deadline = time.monotonic() + _START
        missing = list(PROGRAMS)
        while missing:
            self.check()
            missing = [name for name in missing if not self._asked[name].answers(_READY[name])]
            if missing and time.monotonic() > deadline:
                raise DemoError(
                    f"start: {missing[0]} is not ready within {_START:g} s", program=missing[0]
                )
            waiting(", ".join(missing))
            time.sleep(_POLL)

    def _state(self, name: str) -> ServiceState | None:
        """Return what supervisord says of a program; None while it says nothing."""
        manager = Supervisor(socket=str(self.folder / "supervisor.sock"), process=name)
        with suppress(ActionError):
            return manager.status(timeout=_ASK).state
        return None


def _free_addresses(number: int) -> list[str]:
    """Return loopback addresses with ports that nobody uses at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:  # all are held before one is let go, so that no two are the same
            each.bind(("127.0.0.1", 0))
        return ["{}:{}".format(*each.getsockname()) for each in sockets]


def _word(path: str) -> str:
    """Return *path* as one word of a command in supervisord.conf, where `%` begins a variable."""
    return shlex.quote(path).replace("%", "%%")
