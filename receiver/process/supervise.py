"""A program of its own: runs one argv and lets nothing of it survive its deadline.

The launcher forks it; without one `receiver.process` starts it by path with `python -I -S`. So it
imports nothing of the receiver and little else: what it imports is in each of them. Descriptor 0 is
a socket to the receiver; 1 and 2 are the pipe for the output. It reads one order (see `Order`)
and answers with JSON lines:

    {"started": 4242}
    {"exit": 0, "signal": null, "timed_out": false, "cancelled": false, "killed": 0,
     "unkillable": []}

or, when the argv could not be started, one line `{"error": "exec", "errno": 2}`, where the error
names the step: `prctl`, `fork`, `prepare`, `cwd` or `exec`.

As a child sub-reaper it inherits every orphan below it, so that neither `setsid` nor a double fork
leads out of its sight (prctl(2), PR_SET_CHILD_SUBREAPER). What does lead out is asking somebody
else to fork: systemd, cron, a container engine.

It learns of the receiver's death by the end of file on the socket. PR_SET_PDEATHSIG would not do:
it is sent when the *thread* that forked ends, and the receiver forks in threads that come and go.
"""

from __future__ import annotations

import ctypes
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator
else:
    import _signal as signal  # what `signal` adds, enumerations, is a fifth of our memory

GRACE = 1.0
"""Seconds between the SIGTERM and the SIGKILL."""
KILL_LIMIT = 5.0
"""Seconds until processes that SIGKILL does not end are reported and left: another user's, or stuck
in the kernel."""

_SOCKET = 0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_WALL = 0x40000000  # linux/wait.h: also children that do not announce their end by SIGCHLD
_POLL_MAX = 3600.0  # seconds; poll(2) counts milliseconds in an int


class suppress:  # noqa: N801
    """contextlib's, which imports more than all that is used here."""

    def __init__(self, *kinds: type[Exception]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


class Order:
    """What the receiver asks for.

    On the socket: the number of bytes in decimal, a line feed, and then, joined by NUL, the
    attributes in this order, `argv` preceded by its length, `env` as NAME=value.
    """

    def __init__(self, body: bytes) -> None:
        leftovers, timeout, output, cwd, count, *rest = body.split(b"\0")
        self.leftovers = leftovers
        """`kill` or `leave` what lives when the main process ended in time; `detach` at once."""
        self.timeout = float(timeout)  # seconds
        self.output = int(output)
        """Our descriptor of the reading end of the output; of use for `leave` and `detach`."""
        self.cwd = cwd
        self.argv = rest[: int(count)]
        pairs = (entry.partition(b"=") for entry in rest[int(count) :])
        self.env = {name: value for name, _, value in pairs}


class Cannot(Exception):  # noqa: N818 - a step that cannot be done, not a bug
    def __init__(self, step: str, number: int) -> None:
        super().__init__(step, number)
        self.step = step
        self.number = number


def main() -> int:
    try:
        order = _read_order()
        if order is None:
            return 1
        if order.leftovers == b"detach":
            return _detach(order)
        return _supervise(order)
    except Cannot as cannot:
        _report(f'{{"error": "{cannot.step}", "errno": {cannot.number}}}')
        return 1


def _read_order() -> Order | None:
    """Return the order, or None when the receiver is gone before it was complete."""
    data = b""
    while b"\n" not in data:
        chunk = os.read(_SOCKET, 65536)
        if not chunk:
            return None
        data += chunk
    size, _, data = data.partition(b"\n")
    while len(data) < int(size):
        chunk = os.read(_SOCKET, 65536)
        if not chunk:
            return None
        data += chunk
    return Order(data)


def _report(line: str) -> None:
    with suppress(OSError):  # the receiver is gone, and the next look at the socket says so too
        os.write(_SOCKET, line.encode() + b"\n")


def _detach(order: Order) -> int:
    """Start a daemon; the receiver reads what it prints until it hangs up, and we from then on."""
    wake = _wake_on_signals()
    os.set_inheritable(order.output, False)
    pid = _start(order)
    _report(f'{{"started": {pid}}}')
    _keep_draining(order.output, _Family(pid, wake))
    return 0


def _supervise(order: Order) -> int:
    wake = _wake_on_signals()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if order.leftovers == b"leave":
        os.set_inheritable(order.output, False)
    else:
        os.close(order.output)
    deadline = time.monotonic() + order.timeout
    pid = _start(order)
    _report(f'{{"started": {pid}}}')
    family = _Family(pid, wake)

    timed_out = cancelled = False
    while family.status is None and not timed_out and not cancelled:
        cancelled = family.wait(deadline, socket=True)
        family.reap()
        timed_out = time.monotonic() >= deadline and family.status is None
    # A main process that ended by itself was neither too late nor stopped by us.
    cancelled = cancelled and family.status is None and not timed_out

    if timed_out or cancelled or order.leftovers != b"leave":
        family.end()
    code = None if family.status is None else os.waitstatus_to_exitcode(family.status)
    _report(
        f'{{"exit": {"null" if code is None or code < 0 else code}, '
        f'"signal": {-code if code is not None and code < 0 else "null"}, '
        f'"timed_out": {str(timed_out).lower()}, "cancelled": {str(cancelled).lower()}, '
        f'"killed": {len(family.signalled)}, "unkillable": {sorted(family.unkillable)}}}'
    )
    if order.leftovers == b"leave" and family.reap():
        _keep_draining(order.output, family)
    return 0


def _wake_on_signals() -> int:
    """Return a descriptor that becomes readable, a byte a signal, when one of ours arrives.

    SIGTERM and its like are a cancellation: we are the last who should die of them.
    """
    wake, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the thread that started us may block some
    return wake


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if libc.prctl(option, value, 0, 0, 0):
        raise Cannot("prctl", ctypes.get_errno())


def _start(order: Order) -> int:
    """Fork and exec the argv in a session of its own; return its pid once the exec succeeded."""
    failure, write = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        raise Cannot("fork", error.errno or 0) from None
    if not pid:
        try:
            _become(order, parent)
        except Cannot as cannot:
            os.write(write, f"{cannot.step} {cannot.number}".encode())
        except OSError as error:
            os.write(write, f"prepare {error.errno or 0}".encode())
        finally:
            os._exit(127)
    os.close(write)
    # The output has its last byte when the argv and its children closed it, whatever we do.
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 1, inheritable=False)
    os.dup2(null, 2, inheritable=False)
    os.close(null)
    text = os.read(failure, 64).decode()
    os.close(failure)
    if text:
        os.waitpid(pid, 0)
        step, _, number = text.partition(" ")
        raise Cannot(step, int(number))
    return pid


def _become(order: Order, parent: int) -> None:
    os.setsid()
    be_ordinary()
    for number in range(1, signal.NSIG):
        with suppress(OSError, ValueError):  # SIGKILL, SIGSTOP and those of the C library
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    if order.leftovers != b"detach":
        # Whoever kills this supervisor kills the main process with it. It has one thread, which
        # is why the signal can be trusted here.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(127)
    try:
        os.chdir(order.cwd)
    except OSError as error:
        raise Cannot("cwd", error.errno or 0) from None
    _exec(order)


def be_ordinary(path: str = "/proc/self/oom_score_adj") -> None:
    """Be killed for memory like any other, whatever the service manager has spared promheal.

    It may be what the machine is to be saved from, and what `detach` leaves is a service by itself.
    """
    with suppress(OSError, ValueError), open(path, "r+b", buffering=0) as file:  # noqa: PTH123
        if int(file.read(16)) < 0:
            file.seek(0)
            file.write(b"0")


def _exec(order: Order) -> None:
    """As execvp(3), but it never falls back to a shell."""
    name = order.argv[0]
    places = [b""] if b"/" in name else order.env.get(b"PATH", b"").split(b":")
    worst = 2  # ENOENT
    for place in places:
        try:
            os.execve(os.path.join(place, name), order.argv, order.env)  # noqa: PTH118, S606
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            worst = error.errno or 0  # a later directory may have one that can be started
        except OSError as error:
            raise Cannot("exec", error.errno or 0) from None
    raise Cannot("exec", worst)


class _Family:
    """The main process and all that descends from it."""

    def __init__(self, pid: int, wake: int) -> None:
        self.pid = pid
        self.status: int | None = None
        """The wait status of the main process, once it ended."""
        self.signalled: set[int] = set()
        self.unkillable: set[int] = set()
        self._wake = wake

    def wait(self, until: float, *, socket: bool) -> bool:
        """Sleep until a child ends, *until* on the monotonic clock, or a cancellation.

        Returns whether the receiver closed its end, or died, or a signal asked us to stop.
        """
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if socket:
            poll.register(_SOCKET, select.POLLIN)
        seconds = min(max(until - time.monotonic(), 0.0), _POLL_MAX)
        # Rounded up, or the last millisecond would be a busy loop.
        ready = {descriptor for descriptor, _ in poll.poll(int(seconds * 1000) + 1)}
        signals = os.read(self._wake, 4096) if self._wake in ready else b""
        return _SOCKET in ready or any(number != signal.SIGCHLD for number in signals)

    def reap(self) -> bool:
        """Take what has ended, orphans too; return whether a child is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG | _WALL)
                if not pid:
                    return True
                if pid == self.pid:
                    self.status = status
        except ChildProcessError:
            return False

    def end(self) -> None:
        """End everything: SIGTERM, GRACE, and then SIGKILL until the kernel knows no child."""
        if not self.reap():
            return
        until = time.monotonic() + GRACE
        self._ask(until)
        while self.reap() and time.monotonic() < until:
            self.wait(until, socket=False)
        until = time.monotonic() + KILL_LIMIT
        while self.reap():
            struck = self._strike()
            if struck and struck <= self.signalled and time.monotonic() >= until:
                self.unkillable = struck
                return
            self.signalled |= struck
            self.wait(time.monotonic() + 0.002, socket=False)

    def _ask(self, until: float) -> None:
        # Found first, told then: the children of one that ended at once are no longer below it.
        for pid, _, zombie in _descendants(os.getpid()):
            if not zombie:
                self.signalled.add(pid)
            if time.monotonic() >= until:
                break  # they multiply faster than they are found; the stroke is for that
        for pid in self.signalled:
            _kill(pid, signal.SIGTERM)
            _kill(pid, signal.SIGCONT)  # a stopped process gets its SIGTERM only when it goes on

    def _strike(self) -> set[int]:
        struck = set()
        for pid, group, zombie in _descendants(os.getpid()):
            if not zombie:
                struck.add(pid)
            # A group dies at one stroke: no member can fork out of it in the meantime. Groups end
            # at their session, and the sessions below us were made there: no stranger.
            if group > 1:
                _kill(-group, signal.SIGKILL)
            _kill(pid, signal.SIGKILL)
        return struck


def _descendants(root: int) -> Iterator[tuple[int, int, bool]]:
    """Yield all descendants, parents first: pid, process group, and whether it is a zombie.

    A zombie may have living threads, when it is only its first thread that ended.

    The picture is not of one moment: who forks or is orphaned meanwhile is in the next one. They
    come as they are found, so that a process that forks and ends all the time can be hit.
    """
    children: Callable[[int], list[int]] = _read_children
    if not os.path.exists(f"/proc/{root}/task/{root}/children"):  # noqa: PTH110
        children = _scan_children()
    found = children(root)
    for pid in found:
        with suppress(OSError, ValueError):  # it ended
            state, _, group = _stat(pid)
            yield pid, int(group), state in {b"Z", b"X"}
        found += children(pid)


def _read_children(pid: int) -> list[int]:
    """The children of all threads of *pid*, from proc_pid_task_children(5).

    The cost is that of our own tree, however many processes the machine has.
    """
    found = b""
    with suppress(OSError):  # it ended
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib starts too slowly
            found += _read(f"/proc/{pid}/task/{thread}/children") + b" "
    return [int(child) for child in found.split()]


def _scan_children() -> Callable[[int], list[int]]:
    """The same for a kernel without CONFIG_PROC_CHILDREN: every process names its parent."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal():
            with suppress(OSError, ValueError):  # it ended
                _, parent, _ = _stat(int(name))
                children.setdefault(int(parent), []).append(int(name))
    return lambda pid: children.get(pid, [])


def _stat(pid: int) -> list[bytes]:
    """The state, parent and group of *pid*, from proc_pid_stat(5)."""
    # The name of the command, before the last parenthesis, may hold anything.
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[:3]


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read()


def _kill(pid: int, number: int) -> None:
    with suppress(OSError):  # it ended, or is another user's: the kill loop tells them apart
        os.kill(pid, number)


def _keep_draining(output: int, family: _Family) -> None:
    """Read what a daemon that was left goes on printing, or its next line would be its last.

    Once the receiver closed its end of the pipe, the daemon would die of SIGPIPE. A child does the
    reading, so that the daemon is init's now; it ends with the last holder of the pipe, and with
    nothing else: what tells both of them to end must not take the daemon's last words.
    """
    while not family.wait(time.monotonic() + _POLL_MAX, socket=True):
        family.reap()
    if os.fork():
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(1, _SOCKET)
    os.set_blocking(output, True)
    while os.read(output, 65536):
        pass


if __name__ == "__main__":
    os._exit(main())
