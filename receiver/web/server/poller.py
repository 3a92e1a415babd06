"""The open connections and the listening sockets, in one epoll.

Each is armed for one event (EPOLLONESHOT): the thread that gets the event owns it until it is armed
again or closed. Nobody else touches a connection, except to expire it: that shuts down its socket,
which the owner sees as an event like any other.
"""

from __future__ import annotations

import errno
import math
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from logging import Logger
from typing import Any, Final

from gunicorn import util

from receiver.web.server.connection import Connection

_NO_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_NOT_SENT: Final = 64 * 1024
"""Bytes that the kernel buffers for a client that does not read; it may otherwise be megabytes."""

Listener = Any
"""gunicorn's wrapper of a listening socket."""


class Poller:
    """Safe to use from many threads.

    *limit*: connections at a time. *timeout*: seconds for the first request of one to arrive.
    *tls*: returns the context for a new connection, the same until it is configured anew; None for
    plain HTTP. *wake*: interrupts the thread that sleeps until `wakes_at` and then calls
    `expire()`.
    """

    def __init__(
        self,
        *,
        limit: int,
        timeout: float,
        tls: Callable[[], ssl.SSLContext] | None,
        wake: Callable[[], None],
        log: Logger,
    ) -> None:
        self._limit = limit
        self._timeout = timeout
        self._tls = tls
        self._newest: ssl.SSLContext | None = None
        self._wake = wake
        self._log = log
        self._epoll = select.epoll()
        self._watched: dict[int, Connection | Listener] = {}
        self.full: set[Listener] = set()
        """Listeners that are not armed, because there is no room for another connection."""
        self.connections: set[Connection] = set()
        self.idle: set[Connection] = set()
        """Those that are kept alive between two requests."""
        self.dropped: deque[object] = deque()
        """Clients that were dropped by `shed`, since the last summary."""
        self.wakes_at = math.inf
        """When `expire()` is called next, on the monotonic clock."""

    def listen(self, listener: Listener) -> None:
        listener.setblocking(False)
        self._watched[listener.fileno()] = listener
        self._epoll.register(listener.fileno(), select.EPOLLIN | select.EPOLLONESHOT)

    def stop_listening(self, listener: Listener) -> None:
        self._epoll.unregister(listener.fileno())
        listener.close()

    def wait(self) -> Iterator[Connection]:
        """Wait for an event; yield the connection that the caller owns now."""
        for number, _ in self._epoll.poll(None, 1):
            target = self._watched.get(number)
            conn = target if isinstance(target, Connection) else target and self._accept(target)
            if conn is not None:
                yield conn

    def arm(self, conn: Connection) -> None:
        """Give up a connection until its next event."""
        if conn.until < self.wakes_at:
            self.wakes_at = -math.inf  # once is enough
            self._wake()
        try:
            if conn.armed:
                self._epoll.modify(conn.number, conn.events | select.EPOLLONESHOT)
            else:
                conn.armed = True
                self._watched[conn.number] = conn
                self._epoll.register(conn.number, conn.events | select.EPOLLONESHOT)
        except OSError:  # the kernel has no memory for it
            self.close(conn)

    def close(self, conn: Connection) -> None:
        if conn.armed:
            self._watched.pop(conn.number, None)
        self.idle.discard(conn)
        self.connections.discard(conn)
        util.close(conn.socket)
        if self.full:
            self.accept_again()

    def accept_again(self) -> None:
        """Arm the listeners, if there is room."""
        while self.full and len(self.connections) < self._limit:
            with suppress(KeyError):  # another thread was faster
                self._arm_listener(self.full.pop())

    def expire(self) -> None:
        """Expire the connections that are past their time, and the idle ones that are outdated."""
        now = time.monotonic()
        for conn in list(self.connections):
            if conn.until <= now or (conn in self.idle and self.outdated(conn)):
                conn.expire()

    def outdated(self, conn: Connection) -> bool:
        """Return whether TLS was configured anew since *conn* was accepted.

        Then its client may have been let in by an authority that is no longer trusted.
        """
        return (
            self._tls is not None and getattr(conn.socket, "context", None) is not self._context()
        )

    def _context(self) -> ssl.SSLContext:
        assert self._tls is not None
        context = self._tls()
        if self._newest is not context:
            self._newest = context
            self._wake()  # to close the idle ones that are outdated now
        return context

    def shed(self, limit: int) -> None:
        """Drop those who have not read their answers for longest, down to *limit* bytes of these.

        Each has an owner, who closes it.
        """
        waiting = sorted(
            (conn.until, conn.kept(), conn.number, conn)
            for conn in list(self.connections)
            if conn.unsent
        )
        excess = sum(size for _, size, _, _ in waiting) - limit
        for _, size, _, conn in waiting:
            if excess <= 0:
                return
            conn.drop()
            self.dropped.append(conn.client)
            excess -= size

    def buffered(self) -> int:
        """Return the bytes of requests that all connections hold."""
        return sum(len(conn.buffer) + conn.serving for conn in list(self.connections))

    def _accept(self, listener: Listener) -> Connection | None:
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in _NO_RESOURCES:
                self._log.warning("Cannot accept a connection: %s", error.strerror)
                self.full.add(listener)  # until the next accept_again()
            else:
                self._arm_listener(listener)
            return None
        try:
            server = listener.getsockname()
            if self._tls is not None:
                sock = _wrap(sock, self._context())
            with suppress(OSError):  # a Unix socket, whose buffer is small
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT)
            until = time.monotonic() + self._timeout
            conn = Connection(sock, client, server, tls=self._tls is not None, until=until)
        except OSError:  # the client is gone, or our certificate cannot be read
            self._log.debug("A connection failed before its first byte", exc_info=True)
            util.close(sock)
            self._arm_listener(listener)
            return None
        self.connections.add(conn)
        self.full.add(listener)
        self.accept_again()
        return conn

    def _arm_listener(self, listener: Listener) -> None:
        with suppress(OSError, ValueError):  # closed, because we are stopping
            self._epoll.modify(listener.fileno(), select.EPOLLIN | select.EPOLLONESHOT)


def _wrap(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    # Without it an end without close_notify, as after expire(), would silence our side as well.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    sock.setblocking(False)
    return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
