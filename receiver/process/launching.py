"""Who starts a supervisor? The launcher, a small process that forks them (`launcher.py`).

The order goes to the supervisor alone, once that has said that it is there: until then nothing was
started, and it may be asked for again.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from receiver.process.started import (
    Ends,
    LaunchedProcess,
    StartedSupervisor,
    lending,
    start_directly,
)

log: Final = logging.getLogger("promheal.process")

HERE_LIMIT: Final = 5.0
"""Seconds until a supervisor must be there; else the launcher is frozen."""
PAUSE: Final = 60.0
"""Seconds in which launchers may fail once. After the second time there is none until they are
over."""
_FAILURES: Final = 2
_OVER: Final = "has ended"
_FROZEN: Final = f"does not answer within {HERE_LIMIT:.0f} s"
_LAUNCHER: Final = str(Path(__file__).with_name("launcher.py").resolve())
_READING: Final = 3  # as launcher.py has it
_END_LIMIT: Final = 1.0  # seconds for a launcher that was killed, or whose socket was closed


class _Refusal(msgspec.Struct, frozen=True):
    errno: int


class _RefusedError(Exception):
    """The kernel refused the launcher a fork."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class LauncherCounts(NamedTuple):
    """Since the start of this process."""

    failures: int = 0
    """How often the launcher had ended, or did not answer."""
    direct: int = 0
    """Supervisors that were started directly for that."""


class _Launcher:
    """One launcher process. Raises OSError when it cannot be started."""

    def __init__(self) -> None:
        self._asking, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._popen = subprocess.Popen(  # noqa: S603 - a program of our own
                    [sys.executable, "-I", "-S", _LAUNCHER],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    env={},
                    cwd="/",
                )
        except OSError:
            self._asking.close()
            raise
        self._asking.setblocking(False)
        self.pid = self._popen.pid

    def ask(self) -> Ends:
        """Ask for a supervisor, and do not wait for it.

        Raises EOFError when the launcher is over, TimeoutError when it has not taken what it was
        asked before, OSError for what is not its fault.
        """
        with lending() as ends:
            lent = [ends.theirs.fileno(), ends.writer.fileno(), ends.reader.fileno()]
            try:
                socket.send_fds(self._asking, [b"."], lent)
            except BlockingIOError:
                raise TimeoutError from None
            except ConnectionError:
                raise EOFError from None
        return ends

    def end(self) -> None:
        self._asking.close()
        # Nothing is lost: those that it has started do not need it.
        self._popen.kill()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_END_LIMIT)


class Launching:
    """Has a launcher start supervisors, one of them ahead. Safe to use from many threads.

    Before `start`, and while the launcher fails, they are children of ours.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._on = False
        self._launcher: _Launcher | None = None
        self._ahead: Ends | None = None
        """What belongs to the supervisor that waits for an order, or is on its way."""
        self._failed: list[float] = []
        """When launchers failed, in the last `PAUSE` seconds."""
        self._failures = self._direct = 0

    @property
    def counts(self) -> LauncherCounts:
        return LauncherCounts(self._failures, self._direct)

    @property
    def pid(self) -> int | None:
        """The process of the launcher; None while there is none."""
        launcher = self._launcher
        return None if launcher is None else launcher.pid

    def start(self) -> None:
        """Start the launcher, and wait for its first supervisor.

        It has our limits, niceness and umask of now. Without it we go on all the same.
        """
        with self._lock:
            self._on = True
            self.ask_ahead()
            if self._ahead is not None:
                _readable(self._ahead)

    def stop(self) -> None:
        """End the launcher, and who waits for an order; those that have one go on."""
        with self._lock:
            self._on = False
            launcher, self._launcher = self._launcher, None
            ends, self._ahead = self._ahead, None
        if ends is not None:
            ends.close()
        if launcher is not None:
            launcher.end()

    def supervisor(self) -> StartedSupervisor:
        """Return one that waits for its order. Raises OSError when none can be started."""
        with self._lock:
            launcher = self._launcher
            ends, self._ahead = self._ahead, None
        try:
            if ends is not None:
                # If it died while it waited, or nobody has needed it yet when it was refused,
                # another one is asked for.
                with suppress(EOFError, _RefusedError):
                    return _arrived(ends)
            while asked := self._ask():
                launcher, ends = asked
                try:
                    return _arrived(ends)
                except EOFError:
                    self._fail(launcher, _OVER)
        except TimeoutError:
            self._fail(launcher, _FROZEN)
        except _RefusedError as refused:
            # Not asked again: that would only add to what the machine suffers from.
            raise OSError(refused.number, os.strerror(refused.number)) from None
        with self._lock:
            self._direct += self._on
        return start_directly()

    def ask_ahead(self) -> None:
        """Have a supervisor ready for the next order; does not wait for it."""
        with self._lock, suppress(OSError):  # who needs one asks again, and is told
            if self._ahead is None and (asked := self._ask()):
                _, self._ahead = asked

    def _ask(self) -> tuple[_Launcher, Ends] | None:
        """Ask the launcher, or another one if it is over; None where none is used now."""
        with self._lock:  # or another thread could close what is written to
            while launcher := self._running():
                try:
                    return launcher, launcher.ask()
                except EOFError:
                    self._fail(launcher, _OVER)
                except TimeoutError:
                    self._fail(launcher, _FROZEN)
                    break
        return None

    def _running(self) -> _Launcher | None:
        """Return the launcher, or a new one; None where it is not used, or fails too often."""
        with self._lock:
            since = time.monotonic() - PAUSE
            self._failed = [at for at in self._failed if at > since]
            if self._launcher is None and self._on and len(self._failed) < _FAILURES:
                try:
                    self._launcher = _Launcher()
                except OSError as error:
                    self._fail(None, f"does not start: {error}")
            return self._launcher

    def _fail(self, launcher: _Launcher | None, how: str) -> None:
        """Let go of *launcher*, unless another thread did."""
        with self._lock:
            if launcher is not self._launcher or not self._on:
                return
            self._launcher = None
            self._failures += 1
            self._failed.append(time.monotonic())
            again = len(self._failed) < _FAILURES
        if launcher is not None:
            launcher.end()
        if again:
            log.warning("the launcher of programs %s; another one is started", how)
        else:
            log.warning(
                "the launcher of programs %s, the second time within %.0f s: until these are over, "
                "programs are started without it, each some 20 ms later; find out who ends or "
                "stops it, such as the kernel for want of memory",
                how, PAUSE,
            )  # fmt: skip


LAUNCHING: Final = Launching()
"""Of this process, for all that it runs."""


def _readable(ends: Ends) -> bool:
    """Wait until something has come from the supervisor, or its end."""
    poll = select.poll()
    poll.register(ends.channel, select.POLLIN)
    return bool(poll.poll(HERE_LIMIT * 1000))


def _arrived(ends: Ends) -> StartedSupervisor:
    """Wait until the supervisor is there.

    Raises EOFError when it has died, TimeoutError, _RefusedError, and OSError for what is not its
    fault. Nothing was started then.
    """
    with ExitStack() as stack:
        stack.callback(ends.close)
        if not _readable(ends):
            raise TimeoutError
        try:
            said, pidfds, _, _ = socket.recv_fds(ends.channel, 256, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            said, pidfds = b"", []
        if not said:
            raise EOFError
        if said != b"\n":
            raise _RefusedError(msgspec.json.decode(said, type=_Refusal).errno)
        if not pidfds:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        process = LaunchedProcess(pidfds[0])
        stack.callback(process.close)
        if process.ended(0):
            raise EOFError
        stack.pop_all()
    return StartedSupervisor(ends.channel, ends.reader, _READING, process)
