"""Who gets a thread? Only a connection whose request has arrived completely.

gunicorn's threaded worker gives each connection a thread, and waits for the bytes in it: 40 clients
that send slowly, and nobody else is served. Here a connection costs a buffer until its request has
arrived, and there is a deadline for that. A slow TLS handshake, too, costs a buffer and no thread.

Two reader threads wait in one epoll (`poller`). A complete request is answered right where it was
read if no other is being answered, and is queued for the threads otherwise. There are two so that
one still reads while the other answers; more would take requests off the epoll and then wait for
the interpreter's lock, which is not fair.

HTTP/1 on TCP or Unix sockets; HTTP/2, uwsgi and the PROXY protocol are not served. Linux only:
epoll.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import select
import signal
import ssl
import threading
import time
from typing import Any, Final

from gunicorn import sock as gunicorn_sock
from gunicorn.workers.gthread import ThreadWorker

from receiver.web.server import caretaker
from receiver.web.server.answering import STOP_LINGER, Responder
from receiver.web.server.framing import MAX_BODY
from receiver.web.server.poller import Poller
from receiver.web.server.reading import DEADLINE, RequestReader

_READERS: Final = 2
_M_ARENA_MAX: Final = -8  # malloc.h
_TIDY_EVERY: Final = 10.0
"""Seconds between the times at which unused memory is given back to the system."""
_TICK: Final = 1.0  # seconds; deadlines are that coarse
_REST: Final = 10.0  # seconds at most between two heartbeats for gunicorn
_STOP_TICK: Final = 0.1  # seconds
_SPARE_FILES: Final = 256  # descriptors for everything but connections


class CompleteRequestWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's threaded worker with another way in; the application is called by the same code.

    It is called in up to as many threads as gunicorn's `threads` says, and in one of the readers.

    Three methods of the WSGI application are optional. `take(request, reply)` is offered each
    request first, except over TLS; if it returns True it calls `reply(status, json, headers)` once,
    from any thread, and no thread waits for that. *headers* are those beyond the usual, and may be
    left out. `on_refused(status)` hears of each request that was refused without the application.
    `on_hup()` is called for a SIGHUP, in a thread of its own, and again if one came meanwhile.
    """

    deadline = DEADLINE
    max_body = MAX_BODY
    worker_connections: int
    max_keepalived: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hup = False
        self._reload: threading.Thread | None = None

    def init_process(self) -> None:
        self._make_room()
        _share_one_heap()
        super(ThreadWorker, self).init_process()  # without the pool and the pipe of ThreadWorker

    def init_signals(self) -> None:
        # All are blocked since the fork: gunicorn first resets SIGHUP to its default, which would
        # kill us.
        super().init_signals()
        signal.signal(signal.SIGHUP, self.handle_hup)
        signal.siginterrupt(signal.SIGHUP, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, caretaker.SIGNALS)

    def handle_hup(self, *_: object) -> None:
        self._hup = True  # the signal wakes the main thread, which does the rest

    def handle_exit(self, *_: object) -> None:
        self.alive = False

    def handle_quit(self, sig: int, frame: Any) -> None:
        super(ThreadWorker, self).handle_quit(sig, frame)

    def run(self) -> None:
        """Serve until SIGTERM, then let the requests under way finish."""
        self._wakes = select.poll()
        self._wakes.register(self.PIPE[0], select.POLLIN)
        poller = self._poller = Poller(
            limit=self.worker_connections,
            timeout=self.deadline,
            tls=self._context if self.cfg.is_ssl else None,
            wake=self._wake,
            log=self.log,
        )
        self.keepalived_conns = poller.idle  # handle_request() counts them
        self._reader = RequestReader(
            poller,
            max_body=self.max_body,
            timeout=self.deadline,
            on_refused=getattr(self.wsgi, "on_refused", lambda _: None),
            log=self.log,
        )
        self._responder = Responder(self, poller, self._reader)
        for listener in self.sockets:
            poller.listen(listener)
        for _ in range(_READERS):
            threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._responder.start()
        tidy_at = 0.0
        while self.alive and self.is_parent_alive():
            if time.monotonic() >= tidy_at:
                _give_memory_back()
                tidy_at = time.monotonic() + _TIDY_EVERY
            self._tick(self._rest())
        self.alive = False
        self._stop()

    def _stop(self) -> None:
        poller = self._poller
        for listener in self.sockets:
            poller.stop_listening(listener)
        now = time.monotonic()
        while poller.connections and time.monotonic() < now + self.cfg.graceful_timeout:
            for conn in list(poller.connections):
                if conn.draining or conn in poller.idle:
                    conn.until = min(conn.until, now + STOP_LINGER)
            self._tick(_STOP_TICK)

    def _make_room(self) -> None:
        """Allow no more connections than we may have file descriptors for."""
        needed = self.worker_connections + _SPARE_FILES
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft >= needed:
            return
        have = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (have, hard))
        if have < needed:
            self.worker_connections = max(have - _SPARE_FILES, self.cfg.threads + 1)
            self.max_keepalived = self.worker_connections - self.cfg.threads
            self.log.warning(
                "Only %d connections at a time: the limit of open files is %d; raise it to %d",
                self.worker_connections, have, needed,
            )  # fmt: skip

    def _wake(self) -> None:
        os.write(self.PIPE[1], b".")

    def _context(self) -> ssl.SSLContext:
        # Asked for each connection, as in gunicorn: a new certificate needs no restart. Older
        # connections are closed then, so the hook returns the same object until it changes.
        context: ssl.SSLContext = gunicorn_sock.ssl_context(self.cfg)
        return context

    def _read(self) -> None:
        while True:
            for conn in self._poller.wait():
                self._responder.attend(conn)

    # The main thread: the heartbeat, the signals and the deadlines.

    def _rest(self) -> float:
        """Return the seconds until the main thread has something to do."""
        poller = self._poller
        poller.wakes_at = math.inf  # an earlier deadline that comes up from here on wakes us
        first = min((conn.until for conn in list(poller.connections)), default=math.inf)
        now = time.monotonic()
        seconds = min(max(first - now, _TICK), _REST)
        if self._hup or poller.full:  # a reload is under way, or descriptors ran out
            seconds = _TICK
        poller.wakes_at = now + seconds
        return seconds

    def _tick(self, seconds: float) -> None:
        self.notify()
        if self._wakes.poll(seconds * 1000):
            os.read(self.PIPE[0], 4096)
        if self._hup and (self._reload is None or not self._reload.is_alive()):
            self._start_reload()
        self._poller.expire()
        self._poller.accept_again()
        self._reader.summarise()

    def _start_reload(self) -> None:
        thread = threading.Thread(target=self._call_on_hup, name="reload", daemon=True)
        self._hup = False
        try:
            thread.start()
        except RuntimeError as error:
            self._hup = True  # at the next tick
            self.log.warning("%s; the reload waits", error)
        else:
            self._reload = thread

    def _call_on_hup(self) -> None:
        on_hup = getattr(self.wsgi, "on_hup", None)
        try:
            if on_hup is not None:
                on_hup()
        except Exception:  # whatever it is, the next SIGHUP may fare better
            self.log.exception("The reload failed")


def _share_one_heap() -> None:
    """Have no heap of the C library for each thread: the interpreter's lock leaves one at a time.

    A mebibyte or two stay unused in the others (`python -m bench memory`); see mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has no heaps beside the first
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def _give_memory_back() -> None:
    """Have the C library return free pages; by itself it keeps those below others in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl returns them by itself
    if trim is not None:
        trim(0)
