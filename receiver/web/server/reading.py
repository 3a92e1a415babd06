"""Has the request arrived? Reads a connection until the answer is yes, or the client is refused."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from http import HTTPStatus
from logging import Logger
from typing import Final

from receiver.web.server.connection import CHUNK, Connection
from receiver.web.server.framing import Framing, Progress, Refusal
from receiver.web.server.poller import Poller

DEADLINE: Final = 5.0
"""Seconds for a request to arrive: from the accept, later from its first byte."""
MAX_BUFFERED: Final = 64 * 1024 * 1024
"""Bytes that all connections together may hold before large bodies are refused with 503."""

_SMALL: Final = 64 * 1024  # bytes that a connection may always hold
_SUMMARY_SECONDS: Final = 60.0  # refusals are logged once a minute, however many there are
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Next(Enum):
    """What happens to a connection next."""

    READ = 0
    """Wait for more bytes."""
    ANSWER = 1
    """Its request is complete."""
    SEND = 2
    """Wait until the client reads more of its answer."""
    CLOSE = 3
    DETACHED = 4
    """The application has taken the request; whoever answers it owns the connection."""


class RequestReader:
    """Safe to use from many threads, each with its own connection.

    *timeout*: seconds for a request to arrive. *on_refused* is called with the status of each
    request that is refused here, and which the application therefore never sees.
    """

    def __init__(
        self,
        poller: Poller,
        *,
        max_body: int,
        timeout: float,
        on_refused: Callable[[int], None],
        log: Logger,
    ) -> None:
        self._poller = poller
        self._max_body = max_body
        self._timeout = timeout
        self._on_refused = on_refused
        self._log = log
        self._refused: deque[int] = deque()
        self._summary_at = 0.0

    def read(self, conn: Connection) -> Next:
        """Read what has arrived."""
        while True:
            data = conn.receive()
            if data is None:
                return Next.READ
            if conn.draining:
                conn.draining -= len(data)
                if not data or conn.draining <= 0:
                    return Next.CLOSE
            elif not data:
                if conn.buffer and conn.until <= time.monotonic():
                    self._count(408)
                    text = f"the request did not arrive within {self._timeout:g} s"
                    conn.send_if_room(Refusal(408, "timeout", text).answer())
                return Next.CLOSE
            else:
                conn.buffer += data
                first = conn in self._poller.idle
                self._poller.idle.discard(conn)
                if first and self._poller.outdated(conn):
                    return Next.CLOSE
                then = self.judge(conn, first=first)
                if then is not Next.READ:
                    return then
            if len(data) < CHUNK and not conn.tls:
                return Next.READ

    def judge(self, conn: Connection, *, first: bool) -> Next:
        """Look for a complete request in the buffer. *first*: it holds the first bytes of one."""
        if conn.framing is None:
            conn.framing = Framing(self._max_body)
        try:
            conn.progress = conn.framing.advance(conn.buffer)
            if conn.progress is Progress.PARTIAL:
                self._await_rest(conn, conn.framing)
        except Refusal as refusal:
            self.refuse(conn, refusal)
            return Next.READ
        if conn.progress is not Progress.PARTIAL:
            return Next.ANSWER
        if first:
            conn.until = time.monotonic() + self._timeout
        return Next.READ

    def refuse(self, conn: Connection, refusal: Refusal) -> None:
        """Answer *refusal*; the connection then only waits for its client to close."""
        if refusal.status != HTTPStatus.INTERNAL_SERVER_ERROR:  # that is in the log already
            self._count(refusal.status)
        self._log.debug("Refused with %d: %s", refusal.status, refusal)
        conn.send_if_room(refusal.answer())
        conn.drain()

    def summarise(self) -> None:
        """Log how many requests were refused and clients dropped, at most once a minute."""
        now, dropped = time.monotonic(), self._poller.dropped
        if not (self._refused or dropped) or now < self._summary_at:
            return
        self._summary_at = now + _SUMMARY_SECONDS
        if self._refused:
            counts = Counter(self._refused.popleft() for _ in range(len(self._refused)))
            text = ", ".join(f"{count} with {status}" for status, count in sorted(counts.items()))
            self._log.warning("Answered without the application: %s", text)
        if dropped:
            count = sum(dropped.popleft() is not None for _ in range(len(dropped)))
            self._log.warning("Dropped, because too much was unread: %d clients", count)

    def _count(self, status: int) -> None:
        self._refused.append(status)
        self._on_refused(status)

    def _await_rest(self, conn: Connection, framing: Framing) -> None:
        if framing.head and framing.expects:
            framing.expects = False
            conn.send_if_room(_CONTINUE)
        if len(conn.buffer) > _SMALL and self._poller.buffered() > MAX_BUFFERED:
            raise Refusal(503, "busy", "too many large requests are arriving; send it again")
