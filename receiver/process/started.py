"""A supervisor that was started and waits for its order, as promheal holds it."""

from __future__ import annotations

import io
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

_SUPERVISE: Final = str(Path(__file__).with_name("supervise.py").resolve())


class SupervisorProcess(Protocol):
    """The process of a supervisor, whoever its parent is."""

    def ended(self, seconds: float | None) -> bool:
        """Wait for its end; None: as long as it takes."""

    def kill(self) -> None: ...

    def close(self) -> None: ...


class StartedSupervisor(NamedTuple):
    """It ends when *channel* is closed, without an order or with it."""

    channel: socket.socket
    """Takes the order, and gives the answers; see receiver.process.supervise."""
    reader: io.FileIO
    """The output, without waiting."""
    lent: int
    """The supervisor's descriptor of the same, to go on reading when we have hung up."""
    process: SupervisorProcess

    def close(self) -> None:
        self.channel.close()
        self.reader.close()
        self.process.close()


class Ends(NamedTuple):
    """A stream socket and a pipe: our ends, and what the supervisor gets."""

    channel: socket.socket
    reader: io.FileIO
    theirs: socket.socket
    writer: io.FileIO

    def close(self) -> None:
        """Close ours."""
        self.channel.close()
        self.reader.close()


@contextmanager
def lending() -> Iterator[Ends]:
    """Yield what a supervisor is started with; its ends are closed here after the block.

    All are close-on-exec: an end that strayed into another child would hide our death.
    """
    with ExitStack() as theirs, ExitStack() as ours:
        channel, other = socket.socketpair()
        ours.enter_context(channel)
        theirs.enter_context(other)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        reader = ours.enter_context(io.FileIO(reading, "r"))
        writer = theirs.enter_context(io.FileIO(writing, "w"))
        os.set_blocking(reading, False)
        yield Ends(channel, reader, other, writer)
        ours.pop_all()


def start_directly() -> StartedSupervisor:
    """Start one as a child of ours: an interpreter that takes its time. Raises OSError."""
    with lending() as ends:
        popen = subprocess.Popen(  # noqa: S603 - a program of our own
            [sys.executable, "-I", "-S", _SUPERVISE],
            stdin=ends.theirs.fileno(),
            stdout=ends.writer.fileno(),
            stderr=ends.writer.fileno(),
            pass_fds=[ends.reader.fileno()],
            start_new_session=True,
            env={},
            cwd="/",
        )
    return StartedSupervisor(ends.channel, ends.reader, ends.reader.fileno(), _Child(popen))


class _Child:
    """A process that we have started."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen

    def ended(self, seconds: float | None) -> bool:
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        self._popen.kill()

    def close(self) -> None:
        """Do nothing: once it has ended, it holds nothing."""


class LaunchedProcess:
    """A process that the launcher has started, by its pidfd: pidfd_open(2)."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    def ended(self, seconds: float | None) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        os.close(self._pidfd)
