"""How is a complete request answered? By the application, in a thread or right where it was read.

No thread waits for a client to read its answer: what the kernel does not take at once is kept with
the connection, whose next request is not read before. A client that does not read within
`SEND_DEADLINE` is dropped, and the slowest earlier if too much is kept.

A request that the application takes (`take()`) needs no thread at all while it waits for its
answer. A 503 closes its connection: where several receivers share an address, the next attempt can
then reach another; Alertmanager otherwise keeps its connection, and so its receiver.
"""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import IO, Any, Final, NamedTuple

from receiver.web.server.connection import Connection
from receiver.web.server.framing import Refusal
from receiver.web.server.parsing import parse
from receiver.web.server.poller import Poller
from receiver.web.server.reading import Next, RequestReader
from receiver.web.server.threads import Threads

MAX_UNSENT: Final = 64 * 1024 * 1024
"""Bytes of answers that all clients together may leave unread before the slowest are dropped."""
STOP_LINGER: Final = 2.0
"""Seconds that a stopping worker keeps idle connections, as gunicorn does."""

_SMALL: Final = 64 * 1024  # bytes
_FORWARDED_FOR: Final = "X-FORWARDED-FOR"
_BUG: Final = "A connection is closed because of an internal error"


class OfferedRequest(NamedTuple):
    """A request that the application may take, to answer it later from another thread."""

    method: str
    path: str
    content_type: str
    content_encoding: str
    body: IO[bytes]
    address: str
    """The client's."""
    authorization: str = ""
    host: str = ""
    origin: str = ""
    site: str = ""
    """Sec-Fetch-Site. A header that was not sent is empty."""
    forwarded_for: str = ""
    """X-Forwarded-For, of all its lines."""


Reply = Callable[..., None]
"""`reply(status, json, headers)`: sends the answer to a request that was taken."""


class Responder:
    """Answers requests. Safe to use from many threads, each with its own connection.

    *worker* is gunicorn's: its configuration, its application, and its `handle_request()`.
    """

    def __init__(self, worker: Any, poller: Poller, reader: RequestReader) -> None:
        self._worker = worker
        self._poller = poller
        self._reader = reader
        self._serving: set[Connection] = set()
        self._at_once = threading.Lock()  # one reader at a time answers, and the other reads
        # A client that sends many requests at once must not occupy more than one of the threads.
        self._threads = Threads(worker.cfg.threads, self._answer, worker.log)
        self._pipelined = Threads(1, self._answer, worker.log)

    def start(self) -> None:
        self._threads.start()
        self._pipelined.start()

    def attend(self, conn: Connection) -> None:
        """Do what an event allows: send, or read and answer, or queue it for a thread."""
        try:
            sending = bool(conn.unsent)
            if conn.broken:
                then = Next.CLOSE
            else:
                then = self._send_rest(conn) if sending else self._reader.read(conn)
            if then is Next.ANSWER and not sending:
                conn.until = math.inf
                if self._serving or not self._at_once.acquire(blocking=False):
                    self._threads.put(conn)
                    return
                try:
                    then = self._serve(conn)
                finally:
                    self._at_once.release()
        except Exception:  # a bug of ours costs one connection, never a thread
            self._worker.log.exception(_BUG)
            then = Next.CLOSE
        self._release(conn, then)

    def _answer(self, conn: Connection) -> None:
        try:
            then = self._serve(conn)
        except Exception:  # as in attend()
            self._worker.log.exception(_BUG)
            then = Next.CLOSE
        self._release(conn, then)

    def _release(self, conn: Connection, then: Next) -> None:
        """Give the connection up."""
        if then is Next.ANSWER:
            conn.until = math.inf
            self._pipelined.put(conn)
        elif then in {Next.READ, Next.SEND}:
            conn.events = select.EPOLLOUT if then is Next.SEND else conn.events
            self._poller.arm(conn)
        elif then is Next.CLOSE:
            self._poller.close(conn)

    def _send_rest(self, conn: Connection) -> Next:
        try:
            done = conn.flush()
        except OSError:
            return Next.CLOSE
        if not done:
            return Next.SEND
        conn.events = select.EPOLLIN
        return self._after(conn, stays=conn.stays)

    def _after(self, conn: Connection, *, stays: bool) -> Next:
        """Return what happens to a connection whose request has been answered."""
        stays = stays and not self._poller.outdated(conn)
        if conn.unsent:
            conn.stays = stays
            self._poller.shed(MAX_UNSENT)
            return Next.SEND
        if not stays:
            if not conn.buffer or conn.broken:
                return Next.CLOSE
            conn.drain()
            return Next.READ
        if conn.buffer:
            return self._reader.judge(conn, first=True)
        seconds = self._worker.cfg.keepalive if self._worker.alive else STOP_LINGER
        conn.until = time.monotonic() + seconds
        self._poller.idle.add(conn)
        return Next.READ

    def _serve(self, conn: Connection) -> Next:
        """Answer the complete request at the start of the buffer."""
        conn.until = math.inf
        self._serving.add(conn)
        pieces = conn.take()
        try:
            req = parse(
                self._worker.cfg, pieces, conn.client, number=conn.served, progress=conn.progress
            )
            if not conn.tls and self._offer(conn, req):
                return Next.DETACHED
            stays = self._call(conn, req)
        except Refusal as refusal:
            self._reader.refuse(conn, refusal)
            return Next.READ
        finally:
            conn.serving = 0
            self._serving.discard(conn)
        return self._after(conn, stays=stays)

    def _offer(self, conn: Connection, req: Any) -> bool:
        """Offer the request to the application; return whether it has taken it."""
        take = getattr(self._worker.wsgi, "take", None)
        if take is None:
            return False
        headers = dict(req.headers)
        offered = OfferedRequest(
            method=req.method,
            path=req.path,
            content_type=headers.get("CONTENT-TYPE", ""),
            content_encoding=headers.get("CONTENT-ENCODING", ""),
            body=req.body,
            address=conn.client[0] if isinstance(conn.client, tuple) else "",
            authorization=headers.get("AUTHORIZATION", ""),
            host=headers.get("HOST", ""),
            origin=headers.get("ORIGIN", ""),
            site=headers.get("SEC-FETCH-SITE", ""),
            forwarded_for=",".join(text for name, text in req.headers if name == _FORWARDED_FOR),
        )
        worker = self._worker
        stays = worker.alive and bool(worker.cfg.keepalive) and not req.should_close()

        def reply(status: int, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
            self._reply(conn, status, body, headers, stays=stays and status != 503)

        return bool(take(offered, reply))

    def _reply(
        self,
        conn: Connection,
        status: int,
        body: bytes,
        headers: Sequence[tuple[str, str]],
        *,
        stays: bool,
    ) -> None:
        """Answer a request that was taken. Called once, from any thread; never blocks."""
        answer = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"Connection: {'keep-alive' if stays else 'close'}\r\n"
            "Content-Type: application/json\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            "Cache-Control: no-store\r\n"
            + "".join(f"{name}: {text}\r\n" for name, text in headers)
            + f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        try:
            conn.send(answer)
            then = self._after(conn, stays=stays)
        except OSError:  # the client is gone
            then = Next.CLOSE
        except Exception:  # as in attend()
            self._worker.log.exception(_BUG)
            then = Next.CLOSE
        self._release(conn, then)

    def _call(self, conn: Connection, req: Any) -> bool:
        """Have the application answer; return whether the connection stays open. Raises Refusal."""
        response = ResponseSocket(conn)
        try:
            stays = bool(self._worker.handle_request(req, response))
            response.flush()
        except StopIteration:  # gunicorn closed it: the application failed half-way
            return False
        except (Exception, SystemExit) as error:
            if conn.broken:
                self._worker.log.debug("The client did not read its answer: %s", error)
                return False
            self._worker.log.exception("Error handling request %s %s", req.method, req.uri)
            if response.started:
                return False
            raise Refusal(500, "internal", "the request failed; the log says why") from error
        return stays and not response.unavailable


class ResponseSocket:
    """What gunicorn takes for the connection, and for its socket, while one request is answered.

    The headers are held back until the body begins: one packet instead of two.
    """

    __slots__ = ("_conn", "_held", "client", "server", "started", "unavailable")

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._held: bytes | None = None
        self.client = conn.client
        self.server = conn.server
        self.started = False
        """Something was sent."""
        self.unavailable = False
        """The status is 503."""

    @property
    def sock(self) -> ResponseSocket:
        return self

    def sendall(self, data: bytes) -> None:
        if self._held is None:
            self._held = data
            self.unavailable = data[8:13] == b" 503 "
            return
        held, self._held = self._held, b""
        self.started = True
        if len(data) > _SMALL:  # copying it costs more than a packet
            self._conn.send(held)
            held = b""
        self._conn.send(held + data)

    def flush(self) -> None:
        if self._held:
            self.sendall(b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn.socket, name)
