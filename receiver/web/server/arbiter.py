"""gunicorn with one worker process that reloads in place.

gunicorn replaces its workers at SIGHUP. Ours holds the journal and the engine, so it gets the
signal and reads its configuration again itself.

While the worker runs, the master has nothing to do but wait, and holds all that it has loaded. So
it execs into the caretaker, and comes back when the worker has died.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from gunicorn import arbiter, sock
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger

from receiver.errors import ConfigError
from receiver.settings.environment import environment, taken
from receiver.web.server import caretaker
from receiver.web.server.worker import CompleteRequestWorker

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log: Final = logging.getLogger("promheal")

_WHY_ONE: Final = (
    "promheal runs in one worker process: breakers, budgets and locks live there, and a second "
    "one would act on the same alerts; give it more threads instead"
)
_REST: Final = 10.0  # seconds between two checks of a worker that may be stuck for 60
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  gunicorn unlinks its file at once
DEFAULTS: Final[Mapping[str, object]] = {
    "threads": 40,
    "worker_connections": 1000,
    "keepalive": 75,  # seconds, above the 60 of most proxies: they must be the first to close
    "timeout": 60,  # seconds without a heartbeat of the main thread, which does nothing else
    "graceful_timeout": 30,  # seconds
}
"""gunicorn's settings unless the options say otherwise."""


def tell_of_the_last_worker() -> None:
    """Log why the command starts again, if it does. To be called first: the start may fail."""
    for how in taken((caretaker.ENDED,)).values():
        log.error("%s; another one is started", how)


class InPlaceArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's arbiter for a worker that reloads in place.

    *kept* are variables that are not in the environment any more, and that the next one needs.
    """

    def __init__(self, app: WebServer, kept: Mapping[str, str]) -> None:
        super().__init__(app)
        self._kept = kept
        self._rests = True

    def start(self) -> None:
        for handed in taken((caretaker.LISTENERS,)).values():
            files = [int(number) for number in handed.split(",")]
            self.LISTENERS = sock.create_sockets(self.cfg, self.log, files)
        super().start()

    def init_signals(self) -> None:
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, caretaker.SIGNALS)  # of the caretaker before us

    def wait_for_signals(self, timeout: float = 1.0) -> Any:
        """Wait in the caretaker once the worker lives; before, and if that fails, here."""
        if self._rests and self._settled():
            self._rest()
        # A signal still wakes it, and idle CPU is a promise.
        return super().wait_for_signals(timeout if self._rests else max(timeout, _REST))

    def _settled(self) -> bool:
        """Return whether there is one worker, which has begun to work: its first sign of life."""
        workers = list(self.WORKERS.values())
        return (
            len(workers) == 1
            and not self.reexec_pid
            and not self.master_pid
            and workers[0].tmp.last_update() <= time.monotonic()
        )

    def _rest(self) -> None:
        """Exec into the caretaker; return if there is a signal to handle, or if it cannot be."""
        signal.pthread_sigmask(signal.SIG_BLOCK, caretaker.SIGNALS)
        try:
            if self.SIG_QUEUE.empty():
                self._become_caretaker()
        except OSError as error:
            self._rests = False
            self.log.warning("This process keeps its memory: it cannot become small: %s", error)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, caretaker.SIGNALS)

    def _become_caretaker(self) -> None:
        ((pid, worker),) = self.WORKERS.items()
        files = [worker.tmp.fileno(), *(listener.fileno() for listener in self.LISTENERS)]
        for number in files:
            os.set_inheritable(number, True)
        heartbeat, *listeners = map(str, files)
        os.execve(  # noqa: S606  our own program, and no shell
            sys.executable,
            [
                *(sys.executable, "-I", "-S", caretaker.__file__),
                *(str(pid), heartbeat, str(self.timeout), str(self.cfg.graceful_timeout)),
                *(",".join(listeners), sys.executable, *sys.orig_argv[1:]),
            ],
            {**environment(), **self._kept},
        )

    def spawn_worker(self) -> Any:
        """Fork a worker. It unblocks signals when it handles them: until then it would lose them.

        gunicorn sends SIGTERM once, and then waits for `graceful_timeout`.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, caretaker.SIGNALS)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, caretaker.SIGNALS)

    def handle_hup(self) -> None:
        self.kill_workers(signal.SIGHUP)

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002  gunicorn's own signature
        """Stop the worker as gunicorn does, but by a clock that does not step.

        gunicorn uses the wall clock: set forward, it would kill a worker that may still act for
        `graceful_timeout`; set back, it would wait that much longer for one that hangs.
        """
        arbiter.time = SimpleNamespace(
            time=time.monotonic, monotonic=time.monotonic, sleep=time.sleep
        )
        super().stop(graceful)

    def handle_ttin(self) -> None:
        self.log.warning("SIGTTIN is ignored: %s", _WHY_ONE)


class RootLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Sends gunicorn's messages to the handlers of the root logger, like all others."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self.error_log.propagate = True
        self._access_log_enabled = False


class WebServer(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """A WSGI application on gunicorn.

    *build* is called in the worker, after the fork, where its threads and files belong.
    *options* are gunicorn's settings by name (`bind`, `threads`, `certfile`, …).
    *multiproc_dir* is the environment's PROMETHEUS_MULTIPROC_DIR. *kept* are variables that were
    taken out of the environment, and that a next start of the same command needs.

    Raises ConfigError for an option that promheal cannot run with, or that gunicorn rejects.
    """

    def __init__(
        self,
        build: Callable[[], WSGIApplication],
        options: Mapping[str, object],
        *,
        multiproc_dir: str = "",
        kept: Mapping[str, str] | None = None,
    ) -> None:
        if multiproc_dir:
            raise ConfigError(
                "PROMETHEUS_MULTIPROC_DIR is set, but promheal is one process: its metrics would "
                "be lost in files that nobody merges; unset it"
            )
        self._build = build
        self._options = options
        self._kept = kept or {}
        super().__init__()

    def do_load_config(self) -> None:
        """Set the options. gunicorn's own method prints the error and exits."""
        self.cfg = Config()
        fixed = _fixed()
        for name, value in {**DEFAULTS, **self._options}.items():
            if name in fixed and value != fixed[name]:
                why = _WHY_ONE if name == "workers" else f"it is always {fixed[name]!r}"
                raise ConfigError(f"gunicorn's {name} cannot be {value!r}: {why}")
            self._set(name, value)
        for name, value in fixed.items():
            self._set(name, value)

    def load_config(self) -> None:
        """Do nothing: do_load_config() did it all."""

    def load(self) -> WSGIApplication:
        return self._build()

    def run(self) -> None:
        """Serve until SIGTERM; raises SystemExit with gunicorn's exit code."""
        InPlaceArbiter(self, self._kept).run()

    def _set(self, name: str, value: object) -> None:
        try:
            self.cfg.set(name, value)
        except Exception as error:  # its validators raise anything
            raise ConfigError(f"gunicorn's {name} cannot be {value!r}: {error}") from error


def _fixed() -> dict[str, object]:
    return {
        "workers": 1,
        "worker_class": CompleteRequestWorker,
        "logger_class": RootLogger,
        "accesslog": None,
        "preload_app": False,
        "reload": False,
        "reuse_port": False,  # a second instance must fail, not share
        "sendfile": False,
        "control_socket_disable": True,  # it would be in the home directory, and control us
        "http_protocols": "h1",
        "protocol": "http",
        "proxy_protocol": "off",
        # A header of a client must name no user, path or scheme; what a trusted proxy may say of
        # its client is read by receiver.web.access.trusted_proxies.
        "forwarder_headers": "",
        "forwarded_allow_ips": "",
        "proxy_allow_ips": "",
        "secure_scheme_headers": {},
        "header_map": "drop",
        "do_handshake_on_connect": False,  # the worker does it without blocking
        # The heartbeat is a file's mtime: on a busy disk it would wait for the journal's fsync.
        "worker_tmp_dir": str(_SHARED_MEMORY) if _SHARED_MEMORY.is_dir() else None,
    }
