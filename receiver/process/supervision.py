"""What is the supervisor of one argv told, and what does it answer?

The supervisor is a process of its own, `receiver.process.supervise`: it enforces the deadline also
when promheal is killed.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import msgspec

from receiver.errors import ActionError
from receiver.process.invocation import Invocation
from receiver.process.launching import LAUNCHING
from receiver.process.started import StartedSupervisor

_START_LIMIT: Final = 30.0  # seconds for the supervisor to come up, on a machine in trouble
END_LIMIT: Final = 10.0
"""Seconds that it may take beyond the deadline: its grace and kill loop."""
_CANCEL_INTERVAL: Final = 0.25  # seconds
_SELECT_MAX: Final = 3600.0  # seconds; epoll(2) counts milliseconds in an int
_CHUNK: Final = 65536  # bytes


class _Report(msgspec.Struct, frozen=True):
    """One line of the supervisor; see receiver.process.supervise."""

    started: int | None = None
    error: str | None = None
    errno: int = 0
    exit: int | None = None
    signal: int | None = None
    timed_out: bool = False
    cancelled: bool = False
    killed: int = 0
    unkillable: tuple[int, ...] = ()


class Output:
    """Keeps the head and the tail of what is fed, half of *limit* bytes each."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0

    def feed(self, chunk: bytes) -> None:
        room = self._half - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        excess = len(self._tail) - self._half
        if excess > 0:
            del self._tail[:excess]
            self._left_out += excess

    def text(self) -> str:
        if self._left_out:
            between = b"\n\xe2\x80\xa6 %d bytes left out \xe2\x80\xa6\n" % self._left_out
        else:
            between = b""
        whole = b"".join((self._head, between, self._tail))
        # U+0000 is valid UTF-8, but PostgreSQL stores none in a text.
        return whole.decode(errors="replace").replace("\0", "\ufffd")


class Supervision:
    """The receiver's end of a running supervisor."""

    def __init__(
        self,
        invocation: Invocation,
        started: StartedSupervisor,
        output: Output,
    ) -> None:
        self._invocation = invocation
        self._channel, self._reader, _, self._process = started
        self._output = output
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._channel, selectors.EVENT_READ)
        self._selector.register(self._reader, selectors.EVENT_READ)
        self._lines = b""
        self._main: int | None = None
        """The main process, while its group is ours to kill."""
        self._ask_at = 0.0
        self._cancelling = False

    def send(self, order: bytes) -> None:
        self._channel.settimeout(_START_LIMIT)
        with suppress(OSError):  # it died, or hangs: `_next` finds out
            self._channel.sendall(order)

    def started(self) -> int:
        """Return the pid of the main process as soon as it runs."""
        report = self._next(time.monotonic() + _START_LIMIT, None)
        if report.error is not None:
            raise ActionError(self._invocation.refusal(report.error, report.errno))
        assert report.started is not None
        LAUNCHING.ask_ahead()
        return report.started

    def finished(self, pid: int, timeout: float, cancelled: Callable[[], bool] | None) -> _Report:
        """Return how the main process ended, after the last byte of its output was taken."""
        self._main = pid
        report = self._next(time.monotonic() + timeout + END_LIMIT, cancelled)
        self._main = None
        self._drain()
        return report

    def printed(self) -> str:
        """Return what was printed so far."""
        self._drain()
        return self._output.text()

    def close(self) -> None:
        """Let it end, with everything that it still runs, and see it end."""
        self._selector.close()
        self._channel.close()
        if not self._process.ended(END_LIMIT):
            self._kill()

    def _next(self, limit: float, cancelled: Callable[[], bool] | None) -> _Report:
        """Return its next line; until then take output. *limit* is on the monotonic clock."""
        while b"\n" not in self._lines:
            now = time.monotonic()
            wait = min(limit - now, _SELECT_MAX)
            if wait <= 0:
                raise self._lost("does not answer")
            if cancelled is not None and not self._cancelling:
                if now >= self._ask_at:
                    self._ask_at = now + _CANCEL_INTERVAL
                    if cancelled():
                        self._cancelling = True
                        with suppress(OSError):  # it has just died, which is read below
                            self._channel.shutdown(socket.SHUT_WR)
                wait = min(wait, _CANCEL_INTERVAL)
            for key, _ in self._selector.select(wait):
                if key.fileobj is self._reader:
                    self._read_output()
                else:
                    self._read_lines()
        line, _, self._lines = self._lines.partition(b"\n")
        return msgspec.json.decode(line, type=_Report)

    def _read_output(self) -> int:
        """Take what is there; return the number of bytes."""
        chunk = self._reader.read(_CHUNK)
        if chunk is None:
            return 0
        if not chunk:
            self._selector.unregister(self._reader)
        self._output.feed(chunk)
        return len(chunk)

    def _read_lines(self) -> None:
        try:
            data = self._channel.recv(4096)
        except OSError:
            data = b""
        if not data:
            raise self._lost("died")
        self._lines += data

    def _drain(self) -> None:
        """Take what the main process wrote last: no more than the pipe holds.

        To wait for the end of file would be to wait for the end of a daemon that was left.
        """
        left = fcntl.fcntl(self._reader, fcntl.F_GETPIPE_SZ)
        while left > 0:
            count = self._read_output() if self._reader in self._selector.get_map() else 0
            if not count:
                return
            left -= count

    def _lost(self, what: str) -> ActionError:
        self._kill()
        self._drain()
        return ActionError(
            f"the supervisor of {self._invocation.name} {what}; "
            "the process group was killed, and what had left it may still run",
            output=self._output.text(),
        )

    def _kill(self) -> None:
        self._process.kill()
        self._process.ended(None)
        if self._main is not None:
            # The main process died with its supervisor, but not its children. Its pid stays taken
            # as long as its group has a member.
            with suppress(OSError):
                os.killpg(self._main, signal.SIGKILL)


@contextmanager
def supervised(
    invocation: Invocation, *, leftovers: str, timeout: float, output: Output
) -> Iterator[Supervision]:
    """Start a supervisor. However the block is left, it and all below it have ended after it."""
    with ExitStack() as stack:
        try:
            started = LAUNCHING.supervisor()
            stack.callback(started.close)
            supervision = Supervision(invocation, started, output)
        except OSError as error:
            raise ActionError(invocation.unsupervised(error)) from error
        stack.callback(supervision.close)
        supervision.send(
            invocation.encode(leftovers=leftovers, timeout=timeout, output=started.lent)
        )
        yield supervision
