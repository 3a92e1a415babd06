"""What happens when this argv runs? Nothing that it starts outlives its deadline.

Each argv gets a supervisor of its own (`receiver.process.supervise`), which enforces the deadline,
and does so too when we are killed. Never a shell, and nothing of our environment. Linux only: it
rests on child sub-reapers and /proc.
"""

from __future__ import annotations

import errno
import fcntl
import io
import math
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from receiver.errors import ActionError

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT: Final = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/"}
"""All that an argv inherits, before its own `env`."""

_SUPERVISE: Final = str(Path(__file__).with_name("supervise.py").resolve())
_START_LIMIT: Final = 30.0  # seconds for the supervisor to come up, on a machine in trouble
_END_LIMIT: Final = 10.0  # seconds that it may take beyond the deadline: its grace and kill loop
_CANCEL_INTERVAL: Final = 0.25  # seconds
_SELECT_MAX: Final = 3600.0  # seconds; epoll(2) counts milliseconds in an int
_CHUNK: Final = 65536  # bytes


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """How an argv ended. Neither a bad exit code nor the deadline is an exception."""

    argv: tuple[str, ...]
    exit_code: int | None
    """None when a signal ended it."""
    signal: int | None
    timed_out: bool
    cancelled: bool = False
    killed: int
    """How many processes we had to end: at the deadline, and what the main process left behind."""
    seconds: float
    output: str
    """stdout and stderr as they came, head and tail; undecodable bytes and NUL are U+FFFD."""

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and not self.timed_out and not self.cancelled


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    leftovers: Literal["kill", "leave"] = "kill",
    output_limit: int = 65536,
    cancelled: Callable[[], bool] | None = None,
) -> Finished:
    """Run *argv* and return once it ended: at most *timeout* seconds, and 2 to kill what resists.

    *env* is added to `ENVIRONMENT`; *cwd* is `/` unless given. *leftovers* says what becomes of
    processes that live on when the main process ended in time: a restart wants its daemon left.
    *cancelled* is asked four times a second; once it says yes, everything is ended as at the
    deadline. At most about *output_limit* bytes of output are kept.

    Raises ActionError when *argv* cannot be started, and when its end cannot be vouched for:
    the supervisor was killed, or processes withstood SIGKILL.
    """
    if not (math.isfinite(timeout) and timeout > 0):
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout}")
    order = _Order(argv=tuple(argv), env={**ENVIRONMENT, **(env or {})}, cwd=cwd or "/")
    output = _Output(output_limit)
    began = time.monotonic()
    with _supervisor(order, leftovers=leftovers, timeout=timeout, output=output) as supervisor:
        pid = supervisor.started()
        report = supervisor.finished(pid, timeout, cancelled)
    if report.unkillable:
        pids = " ".join(map(str, report.unkillable))
        raise ActionError(
            f"{order.name} is over, but {len(report.unkillable)} of its processes withstood "
            f"SIGKILL (another user's, or stuck in the kernel); end them by hand: {pids}",
            output=output.text(),
        )
    return Finished(
        argv=order.argv,
        exit_code=report.exit,
        signal=report.signal,
        timed_out=report.timed_out,
        cancelled=report.cancelled,
        killed=report.killed,
        seconds=time.monotonic() - began,
        output=output.text(),
    )


class Detached(msgspec.Struct, frozen=True):
    """A daemon that has just been started."""

    pid: int
    printed: Callable[[], str]
    """Return what it has printed so far, head and tail. To be called often: once the pipe is full,
    the daemon waits."""


@contextmanager
def spawn_detached(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    output_limit: int = 8192,
) -> Iterator[Detached]:
    """Start a daemon that outlives us and the block, in which it is seen what it prints.

    It has a session of its own, nothing to read, and after the block init as its parent. What it
    prints then is read and forgotten by a process of ours that ends with it: by one, since a pipe
    without a reader ends who writes to it. Both stay in our cgroup: systemd ends them with our unit
    unless that says `KillMode=process`. Raises ActionError when it cannot be started.
    """
    order = _Order(argv=tuple(argv), env={**ENVIRONMENT, **(env or {})}, cwd=cwd or "/")
    output = _Output(output_limit)
    with _supervisor(order, leftovers="detach", timeout=0.0, output=output) as supervisor:
        yield Detached(supervisor.started(), supervisor.printed)


class _Order:
    """An argv with its surroundings, checked."""

    def __init__(self, *, argv: tuple[str, ...], env: Mapping[str, str], cwd: str) -> None:
        if not argv or not argv[0]:
            raise ActionError("the command is empty; its first word must be a program")
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.name = repr(argv[0])
        for name in env:
            if not name or "=" in name:
                raise ActionError(
                    f"cannot start {self.name}: {name!r} cannot name a variable of an "
                    "environment; take letters, digits and _"
                )
        self._fields = [cwd, str(len(argv)), *argv, *(f"{name}={env[name]}" for name in env)]
        for field in self._fields:
            try:
                sound = b"\0" not in os.fsencode(field)
            except UnicodeEncodeError:
                sound = False
            if not sound:
                raise ActionError(
                    f"cannot start {self.name}: no process can be given {_shortened(field)}, for "
                    "its NUL or lone surrogate; correct the argument, variable or directory"
                )

    def encode(self, *, leftovers: str, timeout: float, output: int) -> bytes:
        """Return it as `receiver.process.supervise.Order` says."""
        body = b"\0".join(map(os.fsencode, [leftovers, str(timeout), str(output), *self._fields]))
        return b"%d\n%s" % (len(body), body)

    def refusal(self, step: str, number: int) -> str:
        """Return why the supervisor could not start it, and what to do."""
        reason = os.strerror(number)
        path = "/" in self.argv[0]
        if step == "cwd":
            return (
                f"cannot start {self.name} in the directory {self.cwd!r}: {reason}; "
                "create it or correct `cwd`"
            )
        if step != "exec":
            return f"cannot start {self.name}: {step}: {reason}"
        match number:
            case errno.ENOENT if not path:
                remedy = f"install it in one of {self.env.get('PATH', '')} or write its full path"
            case errno.ENOENT | errno.ENOTDIR:
                remedy = "correct its path, or that of the interpreter on its first line"
            case errno.EACCES | errno.EPERM:
                remedy = "make it executable (chmod +x) for the user who runs the receiver"
            case errno.ENOEXEC:
                remedy = "a script needs a first line such as #!/bin/sh"
            case errno.E2BIG:
                remedy = "pass less in its arguments and environment, or a file"
            case _:
                remedy = "start it by hand to see more"
        return f"cannot start {self.name}: {reason}; {remedy}"


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


class _Output:
    """The head and the tail of what is fed, in half of *limit* bytes each."""

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


class _Supervisor:
    """A supervisor that runs, seen from here."""

    def __init__(
        self,
        order: _Order,
        popen: subprocess.Popen[bytes],
        channel: socket.socket,
        reader: io.FileIO,
        output: _Output,
    ) -> None:
        self._order = order
        self._popen = popen
        self._channel = channel
        self._reader = reader
        self._output = output
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ)
        self._selector.register(reader, selectors.EVENT_READ)
        self._lines = b""
        self._main: int | None = None
        """The main process, while its group is ours to kill."""
        self._ask_at = 0.0
        self._cancelling = False

    def send(self, order: bytes) -> None:
        self._channel.settimeout(_START_LIMIT)
        with suppress(OSError):  # it died, or hangs: `_next` tells
            self._channel.sendall(order)

    def started(self) -> int:
        """Return the pid of the main process as soon as it runs."""
        report = self._next(time.monotonic() + _START_LIMIT, None)
        if report.error is not None:
            raise ActionError(self._order.refusal(report.error, report.errno))
        assert report.started is not None
        return report.started

    def finished(self, pid: int, timeout: float, cancelled: Callable[[], bool] | None) -> _Report:
        """Return how the main process ended, after the last byte of its output was taken."""
        self._main = pid
        report = self._next(time.monotonic() + timeout + _END_LIMIT, cancelled)
        self._main = None
        self._drain()
        return report

    def printed(self) -> str:
        """Return what was printed so far."""
        self._drain()
        return self._output.text()

    def close(self) -> None:
        """Let it end, with everything that it still runs, and take its exit status."""
        self._selector.close()
        self._channel.close()
        try:
            self._popen.wait(_END_LIMIT)
        except subprocess.TimeoutExpired:
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
                        with suppress(OSError):  # it died at this moment, which is read below
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
            f"the supervisor of {self._order.name} {what} (its end: {self._popen.returncode}); "
            "the process group was killed, and what had left it may still run",
            output=self._output.text(),
        )

    def _kill(self) -> None:
        self._popen.kill()
        self._popen.wait()
        if self._main is not None:
            # The main process died with its supervisor, but not its children. Its pid stays taken
            # as long as its group has a member.
            with suppress(OSError):
                os.killpg(self._main, signal.SIGKILL)


@contextmanager
def _supervisor(
    order: _Order, *, leftovers: str, timeout: float, output: _Output
) -> Iterator[_Supervisor]:
    """Start a supervisor. However the block is left, it and all below it have ended after it."""
    with ExitStack() as stack:
        try:
            # All of them close-on-exec: an end that strayed into another thread's child would
            # hide our death.
            channel, theirs = map(stack.enter_context, socket.socketpair())
            reader, writer = (
                stack.enter_context(io.FileIO(end, mode))
                for end, mode in zip(os.pipe2(os.O_CLOEXEC), "rw", strict=True)
            )
            os.set_blocking(reader.fileno(), False)
            lent = [reader.fileno()] if leftovers != "kill" else []
            popen = subprocess.Popen(  # noqa: S603 - a program of our own
                [sys.executable, "-I", "-S", _SUPERVISE],
                stdin=theirs.fileno(),
                stdout=writer.fileno(),
                stderr=writer.fileno(),
                pass_fds=lent,
                start_new_session=True,
                env={},
                cwd="/",
            )
        except OSError as error:
            raise ActionError(
                f"cannot start {order.name}: its supervisor does not start: {error}"
            ) from error
        supervisor = _Supervisor(order, popen, channel, reader, output)
        stack.callback(supervisor.close)
        theirs.close()
        writer.close()
        supervisor.send(
            order.encode(leftovers=leftovers, timeout=timeout, output=lent[0] if lent else -1)
        )
        yield supervisor


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
