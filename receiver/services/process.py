"""Services that are nothing but a program and its pidfile.

A pid in a file is a claim: its process may have ended, and another one may have its number. So a
signal is sent through a pidfd, to the process that was checked and no other, and the check is:

- it had started before the file was written. One that is younger than its pidfile got the number
  later. (If it looks like our program all the same, the clock was set, or the file was copied:
  then nothing is touched and a person is asked.)
- the file's owner may name it: root and the receiver's own user may name any, other users only
  processes of their own. Otherwise whoever can write the file could have any process killed.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final

import msgspec

from receiver.duration import Duration
from receiver.errors import ActionError
from receiver.process import spawn_detached
from receiver.services import ServiceState, ServiceStatus

_POLL: Final = 0.05  # seconds
_SETTLE: Final = 1.0
"""Seconds that a program must live to be called running, as supervisord's `startsecs`."""
_PIDFILE_LAG: Final = 2.0
"""Seconds from the end of a daemon's first process until its pidfile must be there."""
_CLOCK_SLACK: Final = 2.0
"""Seconds by which a start may seem later than it was: /proc/stat tells whole ones."""
_START_RESERVE: Final = 2.0
"""Seconds of the time-out that stopping leaves for starting."""
_KILL_LIMIT: Final = 5.0  # seconds for the kernel to end a process


class Process(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program that is signalled to stop, and started again detached from the receiver."""

    pidfile: str
    start: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """It may stay in the foreground or become a daemon. The pidfile is written for it when it does
    not do so itself."""
    stop_signal: str = "TERM"
    stop_timeout: Duration = 10.0
    """Seconds from the signal to SIGKILL, which its whole process group gets if it leads one."""
    cwd: str | None = None

    def __post_init__(self) -> None:
        _signal(self.stop_signal)

    def status(self, *, timeout: float) -> ServiceStatus:  # noqa: ARG002  /proc does not wait
        with self._process() as found:
            if found is None:
                return ServiceStatus(
                    state=ServiceState.STOPPED, detail=f"no process as {self.pidfile} says"
                )
            return ServiceStatus(state=ServiceState.RUNNING, detail=found.words, pid=found.pid)

    def restart(self, *, timeout: float) -> ServiceStatus:
        deadline = time.monotonic() + timeout
        with self._process() as found:
            if found is not None:
                self._stop(found, timeout - min(_START_RESERVE, timeout / 2))
        # A program may refuse to start beside an old pidfile. One that we may not remove stays:
        # the process that it names is over.
        with suppress(OSError):
            Path(self.pidfile).unlink()
        return self._started(spawn_detached(self.start, cwd=self.cwd), deadline)

    def _stop(self, found: _Found, limit: float) -> None:
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

    def _started(self, pid: int, deadline: float) -> ServiceStatus:
        """Wait until the program has settled, and return its status."""
        began = time.monotonic()
        with _pidfd(pid) as descriptor:
            first = _Found(pid, descriptor) if descriptor is not None else None
            ended_at: float | None = None
            while True:
                now = time.monotonic()
                if ended_at is None and (first is None or first.ended(0.0)):
                    ended_at = now
                with self._process() as named:
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
                        raise ActionError(
                            f"{self.start[0]!r} was started as process {pid} and ended at once; "
                            "start it by hand to see why"
                        )
                if now >= deadline:
                    raise ActionError(
                        f"{self.start[0]!r} was started as process {pid}, but time is up before it "
                        f"has run for {_SETTLE:.0f} s"
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

    @contextmanager
    def _process(self) -> Iterator[_Found | None]:
        """Give the living process that the pidfile names, or None when there is none.

        Raises ActionError when it cannot be told whether it is ours.
        """
        claim = _read_pidfile(self.pidfile)
        if claim is None:
            yield None
            return
        pid, claimed = claim
        with _pidfd(pid) as descriptor:
            # From here on the number cannot pass to another process unnoticed: the descriptor
            # stands for the one that is checked.
            found = _Found(pid, descriptor) if descriptor is not None else None
            if found is None or found.ended(0.0) or not self._is_ours(pid, claimed):
                yield None
            else:
                yield found

    def _is_ours(self, pid: int, claimed: os.stat_result) -> bool:
        try:
            started_at = _started_at(pid)
            owner = Path(f"/proc/{pid}").stat().st_uid
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False  # it has just ended
        if claimed.st_uid not in {0, os.geteuid(), owner}:
            raise ActionError(
                f"{self.pidfile} belongs to user {claimed.st_uid} and names process {pid} of user "
                f"{owner}: it is not touched"
            )
        if started_at <= claimed.st_mtime + _CLOCK_SLACK:
            return True
        program = Path(self.start[0]).name
        if program in {Path(os.fsdecode(word)).name for word in words[:2]}:
            raise ActionError(
                f"{self.pidfile} was written before its process {pid} started, which yet looks "
                f"like {self.start[0]!r}: the clock was set, or it is another one; nothing was "
                "touched. Write the file anew if it is right, or remove it"
            )
        return False


class _Found:
    """A process, by a descriptor that stays its own when the number passes to another."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    @property
    def words(self) -> str:
        return f"process {self.pid}"

    def send(self, number: int) -> None:
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            raise ActionError(
                f"process {self.pid} may not be signalled: it belongs to another user"
            ) from None

    def kill(self) -> None:
        """Kill it, and its process group if it leads one: workers must not keep its ports."""
        with suppress(ProcessLookupError, PermissionError):
            leads = os.getpgid(self.pid) == self.pid != os.getpgrp()
            if leads and not self.ended(0.0):
                os.killpg(self.pid, signal.SIGKILL)
        self.send(signal.SIGKILL)

    def ended(self, timeout: float) -> bool:
        """Whether it ends within *timeout* seconds. A zombie has ended."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(timeout * 1000))


@contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    """Give a descriptor of a process, or None when there is none with this number."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # no such process, or the number of a thread
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_pidfile(path: str) -> tuple[int, os.stat_result] | None:
    """Return the pid and whose file it is since when, or None when there is no file.

    Raises ActionError when it cannot be read, holds no pid, or everybody may write it.
    """
    try:
        # A pipe in its place must not hold us up.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ActionError(f"the pidfile cannot be read: {error}") from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ActionError(f"{path} is no file, so no pidfile")
        text = os.read(descriptor, 64)
    finally:
        os.close(descriptor)
    if facts.st_mode & stat.S_IWOTH:
        raise ActionError(f"{path} can be written by everybody, so it is not believed: chmod o-w")
    words = text.split()
    if not words:
        return None  # it is just being written, or was left empty
    if not words[0].isdigit() or len(words[0]) > 9:
        raise ActionError(f"{path} holds no pid, but {text[:32]!r}")
    pid = int(words[0])
    if pid in {0, 1, os.getpid(), os.getppid()}:
        raise ActionError(f"{path} names process {pid}, which is init or the receiver itself")
    return pid, facts


def _started_at(pid: int) -> float:
    """Return when a process started, seconds since the epoch. Raises OSError when it is over."""
    # proc(5): the command's name may hold spaces and parentheses; starttime is field 22, in ticks.
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    for line in Path("/proc/stat").read_bytes().splitlines():
        name, _, value = line.partition(b" ")
        if name == b"btime":
            return int(value) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    raise ActionError("/proc/stat does not tell when the system was booted")


def _signal(name: str) -> signal.Signals:
    try:
        return signal.Signals[f"SIG{name.removeprefix('SIG')}"]
    except KeyError:
        raise ValueError(f"unknown signal {name!r}; write for example TERM, INT or QUIT") from None
