"""Services that are nothing but a program and its pidfile."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import msgspec

from receiver.errors import ActionError
from receiver.policy.texts import Argv, Duration, FilePath, Name
from receiver.process import PATH, Detached, spawn_detached
from receiver.services import ServiceState, ServiceStatus
from receiver.services.pidfile import PidfileProcess, named_by, opened

_POLL: Final = 0.05  # seconds
_SETTLE: Final = 1.0
"""Seconds that a program must live to be called running, as supervisord's `startsecs`."""
_PIDFILE_LAG: Final = 2.0
"""Seconds from the end of a daemon's first process until its pidfile must be there."""
_START_RESERVE: Final = 2.0
"""Seconds of the time-out that stopping leaves for starting."""
_KILL_LIMIT: Final = 5.0  # seconds for the kernel to end a process


class Process(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program that is signalled to stop, and started again detached from the receiver."""

    pidfile: FilePath
    """Where its process id stands. It is written for it when the program does not do so itself."""
    start: Annotated[Argv, msgspec.Meta(min_length=1)]
    """Program and arguments. No shell."""
    stop_signal: Name = "TERM"
    """What asks it to end."""
    stop_timeout: Duration = 10.0
    """From the signal to SIGKILL."""
    cwd: FilePath | None = None
    """Where it is started; `/` when left out."""

    def __post_init__(self) -> None:
        _signal(self.stop_signal)

    def status(self, *, timeout: float) -> ServiceStatus:  # noqa: ARG002  /proc does not wait
        with named_by(self.pidfile, self.start[0]) as found:
            if found is None:
                return ServiceStatus(
                    state=ServiceState.STOPPED, detail=f"no process as {self.pidfile} says"
                )
            return ServiceStatus(state=ServiceState.RUNNING, detail=found.words, pid=found.pid)

    def probe(self, *, timeout: float) -> Iterator[str]:  # noqa: ARG002  nothing here waits
        if shutil.which(self.start[0], path=PATH) is None:
            yield f"there is no program {self.start[0]!r}; write its whole path"
        folder = Path(self.pidfile).parent
        if not os.access(folder, os.W_OK | os.X_OK):
            yield f"promheal's user may not write {self.pidfile}, or {folder} is not there"
        with named_by(self.pidfile, self.start[0]) as found:
            if found is not None and not found.may_be_signalled():
                yield f"promheal's user may not signal {found.words}: it is another user's"

    def restart(self, *, timeout: float) -> ServiceStatus:
        deadline = time.monotonic() + timeout
        with named_by(self.pidfile, self.start[0]) as found:
            if found is not None:
                self._stop(found, timeout - min(_START_RESERVE, timeout / 2))
        # A program may refuse to start beside an old pidfile. One that we may not remove stays:
        # the process that it names is over.
        with suppress(OSError):
            Path(self.pidfile).unlink()
        with spawn_detached(self.start, cwd=self.cwd) as daemon:
            return self._started(daemon, deadline)

    def _stop(self, found: PidfileProcess, limit: float) -> None:
        patience = max(0.0, min(self.stop_timeout, limit))
        found.send(_signal(self.stop_signal))
        if found.ended(patience):
            return
        found.kill()
        if not found.ended(_KILL_LIMIT):
            raise ActionError(
                f"process {found.pid} of {self.pidfile} withstood SIGKILL, so it was not started "
                "again; it is stuck in the kernel"
            )

    def _started(self, daemon: Detached, deadline: float) -> ServiceStatus:
        """Wait until the program has settled, and return its status."""
        began, pid = time.monotonic(), daemon.pid
        with opened(pid) as descriptor:
            first = PidfileProcess(pid, descriptor) if descriptor is not None else None
            ended_at: float | None = None
            while True:
                now = time.monotonic()
                printed = daemon.printed()
                if ended_at is None and (first is None or first.ended(0.0)):
                    ended_at = now
                with named_by(self.pidfile, self.start[0]) as named:
                    settled = now - began >= _SETTLE
                    if settled and named is not None:
                        return ServiceStatus(
                            state=ServiceState.RUNNING, detail=named.words, pid=named.pid
                        )
                    if settled and ended_at is None and first is not None:
                        self._write(pid)
                        return ServiceStatus(
                            state=ServiceState.RUNNING, detail=first.words, pid=pid
                        )
                    if ended_at is not None and named is None and now - ended_at > _PIDFILE_LAG:
                        silent = ", and printed nothing; start it by hand to see why"
                        raise ActionError(
                            f"{self.start[0]!r} was started as process {pid} and ended at once"
                            f"{'' if printed.strip() else silent}",
                            output=printed,
                        )
                if now >= deadline:
                    raise ActionError(
                        f"{self.start[0]!r} was started as process {pid}, but time is up before it "
                        f"has run for {_SETTLE:.0f} s",
                        output=printed,
                    )
                time.sleep(_POLL)

    def _write(self, pid: int) -> None:
        path = Path(self.pidfile)
        draft = path.with_name(f".{path.name}.{pid}")
        try:
            # O_EXCL: in a directory like /tmp somebody else's link would lead to any file.
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{pid}\n")
            draft.replace(path)
        except OSError as error:
            raise ActionError(
                f"{self.start[0]!r} runs as process {pid}, but its pidfile cannot be written: "
                f"{error}; let it write its own"
            ) from None


def _signal(name: str) -> signal.Signals:
    try:
        return signal.Signals[f"SIG{name.removeprefix('SIG')}"]
    except KeyError:
        raise ValueError(f"unknown signal {name!r}; write for example TERM, INT or QUIT") from None
