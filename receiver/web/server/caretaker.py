"""What gunicorn's master becomes while its worker runs: a process that has imported nothing.

gunicorn's master has loaded the application to check its configuration, and holds as much memory as
the worker, only to wait. So it execs into this program, which keeps its process id, its listening
sockets and its child; and which execs into the same command again when the worker has died: a
gunicorn that begins anew, with the sockets that it is handed.

This is run as a script, in isolation. `signal` would import `enum`, and `os` is not there either:
together they are a third of what this process holds.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # see above
import posix
import sys
import time

SIGNALS = frozenset(
    {
        _signal.SIGCHLD, _signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM,
        _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGWINCH,
    }
)  # fmt: skip
"""What is waited for, and therefore blocked, from before the exec on; so none is lost."""
ENDING = frozenset({_signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM})
LISTENERS = "PROMHEAL_LISTENERS"
"""The variable with the listening sockets for the next one, as numbers with commas between."""
ENDED = "PROMHEAL_WORKER_ENDED"
"""And that with what the next one is to log about the worker."""

_REST = 10.0  # seconds between two checks of the heartbeat
_LAST = 1.0  # seconds that a worker that hangs has to end by itself, before it is killed


class Caretaker:
    """*heartbeat* is the file whose modification time the worker sets, by the monotonic clock.

    *timeout* and *grace* are in seconds: without a heartbeat, and to end after SIGTERM.
    """

    def __init__(
        self, worker: int, heartbeat: int, timeout: float, grace: float, listeners: list[int]
    ) -> None:
        self._worker = worker
        self._heartbeat = heartbeat
        self._timeout = timeout
        self._grace = grace
        self._listeners = listeners
        self._aborted: float | None = None
        self._looked = time.monotonic()
        self._since = 0.0

    def run(self) -> str:
        """Return how the worker has ended. Raises SystemExit after a signal to end."""
        pause = _REST
        while True:
            number = _wait(pause)
            if number in ENDING:
                self._stop(_signal.SIGTERM if number == _signal.SIGTERM else _signal.SIGQUIT)
            if number == _signal.SIGHUP:
                self._kill(_signal.SIGHUP)
            status = self._reaped()
            if status is not None:
                return self._words(status)
            pause = self._look()

    def _look(self) -> float:
        """Abort a worker that hangs, and then kill it; return the seconds until the next look."""
        now = time.monotonic()
        if now > self._looked + 2 * _REST:  # we were frozen ourselves, and it with us
            self._since = now
        self._looked = now
        if self._aborted is None:
            beat = max(posix.fstat(self._heartbeat).st_mtime, self._since)
            if now - beat <= self._timeout:
                return _REST
            self._aborted = now
            self._kill(_signal.SIGABRT)
        elif now > self._aborted + _LAST:
            self._kill(_signal.SIGKILL)
        return _LAST

    def _stop(self, number: int) -> None:
        for listener in self._listeners:
            posix.close(listener)
        self._kill(number)
        until = time.monotonic() + self._grace
        while self._reaped() is None:
            left = until - time.monotonic()
            if left <= 0:
                self._kill(_signal.SIGKILL)
            _wait(max(left, 1.0))
        sys.exit(0)

    def _reaped(self) -> int | None:
        """Return the worker's exit status. As process 1 of a container it inherits orphans too."""
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                return 0
            if pid == self._worker:
                return status
            if pid == 0:
                return None

    def _words(self, status: int) -> str:
        code = posix.waitstatus_to_exitcode(status)
        how = f"exited with code {code}" if code >= 0 else f"was ended by signal {-code}"
        if self._aborted is not None:
            how += f", after {self._timeout:g} s without a sign of life"
        elif code == -_signal.SIGKILL:
            how += "; perhaps out of memory?"
        return f"worker {self._worker} {how}"

    def _kill(self, number: int) -> None:
        posix.kill(self._worker, number)  # it is not reaped yet


def _wait(seconds: float) -> int:
    """Return the next signal, 0 if none came."""
    found = _signal.sigtimedwait(SIGNALS, seconds)
    return 0 if found is None else int(found.si_signo)


def be_called(name: bytes, path: str = "/proc/self/comm") -> None:
    """Take the name that people look for; a sandbox in which nobody can has another."""
    try:
        with open(path, "wb", buffering=0) as comm:  # noqa: PTH123  pathlib, too, is an import
            comm.write(name)
    except OSError:
        return


def main() -> None:
    worker, heartbeat, timeout, grace, listeners, *argv = sys.argv[1:]
    be_called(b"promheal")
    words = Caretaker(
        int(worker), int(heartbeat), float(timeout), float(grace), [*map(int, listeners.split(","))]
    ).run()
    # From here on a signal to end ends the next one too, until gunicorn takes it; a reload waits.
    if _signal.sigpending() & ENDING:
        sys.exit(0)
    if posix.getpid() != 1:  # which gets none that it does not handle: there, too, it waits
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, ENDING)
    environ: dict[bytes, bytes | str] = {**posix.environ}
    environ |= {LISTENERS.encode(): listeners, ENDED.encode(): words}
    posix.close(int(heartbeat))
    posix.execve(argv[0], argv, environ)


if __name__ == "__main__":
    main()
