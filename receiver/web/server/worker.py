"""Who gets a thread? Only a connection whose request has arrived completely.

gunicorn's threaded worker gives a thread to whoever connects, and then waits in it for the bytes:
40 clients that send slowly, and nobody else is served. Here a connection costs a buffer until its
request is there, and it has a deadline for that.

Two readers wait in one epoll. When a request is complete and no other is being answered, its
reader answers it there and then; otherwise it goes to the threads, in the order of completion. Two,
so that one still reads while the other answers. No more, because each of many would take a request
off the epoll and then wait for the interpreter's lock, which is not fair: some wait very long.

A connection is armed for one event (EPOLLONESHOT), so that whoever got the event owns it until it
is armed again or closed. Nobody else touches it, except for the main thread: it ends a connection
whose time is up by shutting down its socket, which reaches the owner as an event like any other.

How far a request reaches is read from Content-Length and Transfer-Encoding alone, and judged by
gunicorn's parser: it gets exactly those bytes, and must use all of them and ask for no more, or the
answer is 400. Whatever looks doubtful goes to the parser at once, for it to refuse.

TLS is done in the same loop: a slow handshake, too, costs a buffer and has the deadline.

A 503 ends its connection: where several receivers share an address, the next try can then reach
another. Alertmanager keeps a connection, and so one receiver, as long as it may.

HTTP/1 on TCP or Unix sockets; HTTP/2, uwsgi and the PROXY protocol are not served. Linux only:
epoll.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import queue
import re
import resource
import select
import signal
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from itertools import pairwise
from typing import IO, Any, Final, NamedTuple

from gunicorn import http, util
from gunicorn import sock as gunicorn_sock
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

DEADLINE: Final = 5.0
"""Seconds for a request to arrive: from the accept, later from its first byte."""
MAX_HEAD: Final = 64 * 1024
"""Bytes of a request line with its headers; gunicorn's own limits lie below."""
MAX_BODY: Final = 8 * 1024 * 1024
"""Bytes of a body, without the framing of chunks."""
MAX_BUFFERED: Final = 64 * 1024 * 1024
"""Bytes that all connections together may hold before large bodies are turned away with 503."""
SEND_DEADLINE: Final = 30.0
"""Seconds for a client to take one piece of an answer."""

_READERS: Final = 2
_TICK: Final = 1.0  # seconds; deadlines are that coarse
_REST: Final = 10.0  # seconds, while no request is on its way
_STOP_TICK: Final = 0.1  # seconds
_STOP_LINGER: Final = 2.0  # seconds that a stopping worker keeps idle connections, as gunicorn does
_DRAIN_SECONDS: Final = 5.0  # for a client that we refused to stop sending and to read why
_DRAIN_BYTES: Final = 64 * 1024 * 1024  # the same
_SUMMARY_SECONDS: Final = 60.0  # refusals are logged once a minute, however many there are
_SPARE_FILES: Final = 256  # descriptors for everything but connections
_CHUNK: Final = 64 * 1024  # bytes, for one recv
_SMALL: Final = 64 * 1024  # bytes that a connection may always hold
_PIECE: Final = 1024 * 1024  # bytes that the parser is handed at once
_CHUNKED_PIECE: Final = 8 * 1024  # its reader copies the rest of the piece for each chunk
_MAX_CHUNK_LINE: Final = 8192  # bytes, as in gunicorn
_MAX_FRAMING: Final = 64 * 1024  # bytes of chunk framing beyond twice the content

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_FRAMING_FIELD: Final = re.compile(
    rb"\r\n(content-length|transfer-encoding|expect)[ \t]*:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)",
    re.IGNORECASE,
)
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}(?=[ \t;\r])")
_STATUS: Final = {
    errors.ExpectationFailed: 417,
    errors.LimitRequestHeaders: 431,
    errors.LimitRequestLine: 414,
    errors.UnsupportedTransferCoding: 501,
}
"""What gunicorn's parser refuses is 400 otherwise."""


class Refusal(Exception):  # noqa: N818  an answer, not an error
    """The request is answered here, and the connection ends with it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def answer(self) -> bytes:
        body = json.dumps({"error": {"code": self.code, "message": str(self)}}).encode() + b"\n"
        return (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        ).encode() + body


class Progress(Enum):
    """How much of a request has come."""

    PARTIAL = 0
    COMPLETE = 1
    DOUBTFUL = 2
    """It can be told that the parser will refuse it, but not where it ends."""


class Fate(Enum):
    """What becomes of a connection."""

    WAIT = 0
    SERVE = 1
    CLOSE = 2
    LATER = 3
    """The application has taken the request, and whoever answers it owns the connection."""


class Taken(NamedTuple):
    """A request that the application may take, to answer it later from another thread."""

    method: str
    path: str
    kind: str
    """Content-Type, or nothing."""
    encoding: str
    """Content-Encoding, or nothing."""
    body: IO[bytes]
    sender: str
    """The client's address."""
    authorization: str = ""
    host: str = ""
    origin: str = ""
    site: str = ""
    """These four are headers, or nothing; the last is Sec-Fetch-Site."""


class Framing:
    """Where does the request at the start of a growing buffer end? One object a request.

    RFC 9112 section 6.3, as far as it needs to be known in order to wait.
    """

    __slots__ = ("_at", "_content", "_length", "_limit", "_seen", "end", "expects", "head")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen = 0
        self._length: int | None = 0
        """Bytes of the body; None when it comes in chunks."""
        self._at = 0
        """Where the next chunk starts."""
        self._content = 0
        """Bytes in the chunks before it."""
        self.head = 0
        """Bytes of the request line and the headers with the empty line; 0 before it came."""
        self.end = 0
        """Bytes of the request, once it is complete."""
        self.expects = False
        """The client waits for 100 Continue."""

    @property
    def chunked(self) -> bool:
        return self._length is None

    def advance(self, buffer: bytearray) -> Progress:
        """Say how much of the request *buffer* holds; it only ever grew since the last call.

        Raises Refusal when the head or the body is too large.
        """
        if not self.head:
            found = buffer.find(b"\r\n\r\n", max(0, self._seen - 3))
            if (found if found >= 0 else len(buffer)) > MAX_HEAD:
                raise Refusal(431, "headers_too_large", f"the headers exceed {MAX_HEAD} bytes")
            if found < 0:
                # gunicorn takes CRLF alone: an empty line that ends in LF would never be found.
                doubtful = _BARE_LF.search(buffer, self._seen) is not None
                self._seen = len(buffer)
                return Progress.DOUBTFUL if doubtful else Progress.PARTIAL
            self.head = self._at = self.end = found + 4
            if not self._read_head(buffer):
                self.end = len(buffer)
                return Progress.DOUBTFUL
        if self._length is not None:
            return Progress.COMPLETE if len(buffer) >= self.end else Progress.PARTIAL
        progress = self._read_chunks(buffer)
        if progress is Progress.DOUBTFUL:
            self.end = len(buffer)
        return progress

    def _read_head(self, buffer: bytearray) -> bool:
        """Return whether the length of the body is beyond doubt."""
        lengths = []
        codings = []
        for name, value in _FRAMING_FIELD.findall(buffer, 0, self.head):
            lowered = name.lower()
            if lowered == b"content-length":
                lengths.append(value)
            elif lowered == b"transfer-encoding":
                codings.append(value)
            elif value.lower() == b"100-continue":
                self.expects = buffer.find(b" HTTP/1.1\r\n", 0, self.head) >= 0
            else:
                return False
        if codings:
            self._length = None
            return not lengths and codings[-1].rpartition(b",")[2].strip().lower() == b"chunked"
        if lengths:
            if len(lengths) > 1 or not lengths[0].isdigit():
                return False
            if len(lengths[0]) > 18 or int(lengths[0]) > self._limit:
                raise self._too_large()
            self._length = int(lengths[0])
            self.end = self.head + self._length
        return True

    def _read_chunks(self, buffer: bytearray) -> Progress:
        """Walk from chunk to chunk; RFC 9112 section 7.1."""
        while True:
            line = buffer.find(b"\r\n", self._at, self._at + _MAX_CHUNK_LINE)
            if line < 0:
                long = len(buffer) - self._at >= _MAX_CHUNK_LINE
                return Progress.DOUBTFUL if long else Progress.PARTIAL
            digits = _CHUNK_SIZE.match(buffer, self._at, line + 1)
            if digits is None:
                return Progress.DOUBTFUL
            size = int(digits[0], 16)
            if size == 0:
                return self._read_trailers(buffer, line + 2)
            if self._content + size > self._limit:
                raise self._too_large()
            after = line + 2 + size
            if len(buffer) < after + 2:
                return Progress.PARTIAL
            if buffer[after : after + 2] != b"\r\n":
                return Progress.DOUBTFUL
            self._at = after + 2
            self._content += size
            # A chunk for each byte would cost us far more to read than its sender to send.
            if self._at - self.head > 2 * self._content + _MAX_FRAMING:
                raise Refusal(413, "too_large", "the chunks have more framing than content")

    def _read_trailers(self, buffer: bytearray, start: int) -> Progress:
        if buffer[start : start + 2] == b"\r\n":
            self.end = start + 2
            return Progress.COMPLETE
        found = buffer.find(b"\r\n\r\n", start)
        if found >= 0:
            self.end = found + 4
            return Progress.COMPLETE
        if len(buffer) - start > MAX_HEAD or _BARE_LF.search(buffer, start):
            return Progress.DOUBTFUL
        return Progress.PARTIAL

    def _too_large(self) -> Refusal:
        return Refusal(413, "too_large", f"the body exceeds {self._limit} bytes")


class Connection:
    """A client's socket, and what has come of its next request."""

    __slots__ = (
        "armed", "broken", "buffer", "client", "draining", "framing", "number", "owed", "progress",
        "served", "server", "serving", "shaken", "socket", "tls", "until", "wants", "writing",
    )  # fmt: skip

    def __init__(
        self, sock: socket.socket, client: Any, server: Any, *, tls: bool, until: float
    ) -> None:
        self.socket = sock
        self.number = sock.fileno()
        self.client = client
        self.server = server
        self.tls = tls
        self.until = until
        """When its time is up, on the monotonic clock."""
        self.buffer = bytearray()
        self.framing: Framing | None = None
        self.progress = Progress.PARTIAL
        self.served = 0
        """Requests so far."""
        self.serving = 0
        """Bytes of the request that is being answered."""
        self.draining = 0
        """Bytes that are still read and thrown away; 0 unless it was refused."""
        self.armed = False
        """It is known to the poller."""
        self.wants = select.EPOLLIN
        self.shaken = False
        self.writing = False
        self.broken = False
        self.owed: tuple[bytes, bool] | None = None
        """What a thread must still send, and whether the connection stays afterwards."""

    def receive(self) -> bytes | None:
        """Return what has come, nothing at the end, None while there is nothing yet."""
        self.wants = select.EPOLLIN
        try:
            if not self.tls:
                # The socket stays blocking, for the answer: this saves four calls a request.
                return self.socket.recv(_CHUNK, socket.MSG_DONTWAIT)
            if not self.shaken:
                self.socket.do_handshake()  # type: ignore[attr-defined]  # an SSLSocket
                self.shaken = True
            return self.socket.recv(_CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:
            self.wants = select.EPOLLOUT
            return None
        except OSError:
            return b""

    def take(self) -> Iterator[bytes]:
        """Cut the request off the buffer, into pieces that gunicorn's readers digest well."""
        framing, self.framing = self.framing, None
        assert framing is not None
        head = framing.head or len(self.buffer)
        self.serving = end = framing.end or len(self.buffer)
        self.served += 1
        with memoryview(self.buffer) as view:
            request = bytes(view[:end])
        if end == len(self.buffer):
            self.buffer = bytearray()
        else:
            del self.buffer[:end]
        cuts = (0, *range(head, end, _CHUNKED_PIECE if framing.chunked else _PIECE), end)
        return (request[start:stop] for start, stop in pairwise(cuts))

    def say(self, data: bytes) -> None:
        """Send a few bytes if they can be sent at once."""
        with suppress(OSError):
            if self.tls:
                self.socket.send(data)
            else:
                self.socket.send(data, socket.MSG_DONTWAIT)

    def write(self, data: bytes) -> None:
        """Send *data* from a thread; raises OSError when the client does not take it in time."""
        self.until = time.monotonic() + SEND_DEADLINE
        self.writing = True
        try:
            self.socket.sendall(data)
        except OSError:
            self.broken = True
            raise
        finally:
            self.writing = False
            self.until = math.inf

    def pass_on(self, data: bytes) -> bytes:
        """Send what the client takes at once; return the rest."""
        try:
            return data[self.socket.send(data, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return data
        except OSError:
            self.broken = True
            return b""

    def drain(self) -> None:
        """End our side, and wait a little for the client to end its own.

        Closing at once makes the kernel answer what still comes with a reset, which can overtake
        our last words: RFC 9112 section 9.6.
        """
        self.buffer = bytearray()
        self.draining = _DRAIN_BYTES
        self.until = time.monotonic() + _DRAIN_SECONDS
        self._shut(socket.SHUT_WR)

    def expire(self) -> None:
        """Make its owner find the end; called by the main thread, which is not the owner.

        What has come already can still be read: a request that waited for a thread is served.
        """
        self._shut(socket.SHUT_RDWR if self.writing else socket.SHUT_RD)

    def _shut(self, how: int) -> None:
        with suppress(OSError):
            socket.socket.shutdown(self.socket, how)  # SSLSocket's own forgets the session


class Reply:
    """What gunicorn takes for the connection, and for its socket, while one request is answered.

    It holds the headers back until the first of the body comes: one packet instead of two.
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
        """It is a 503."""

    @property
    def sock(self) -> Reply:
        return self

    def sendall(self, data: bytes) -> None:
        if self._held is None:
            self._held = data
            self.unavailable = data[8:13] == b" 503 "
            return
        data, self._held = self._held + data, b""
        self.started = True
        self._conn.write(data)

    def flush(self) -> None:
        if self._held:
            self.sendall(b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn.socket, name)


class CompleteRequestWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's threaded worker with another way in; the application is called by the same code.

    It is called in as many threads as gunicorn's `threads` says, and in one of the readers.

    `take(request, tell)` of the WSGI application, when it has one, is offered each request first
    (not those that came by TLS). If it returns True it calls `tell(status, json, headers)` once,
    from any thread, and no thread waits for that; the headers are those beyond the usual, and may
    be left out. A request that is refused here calls `on_refused(status)`.
    SIGHUP calls `on_hup()`, in a thread of its own, and once more if it comes again meanwhile.
    """

    deadline = DEADLINE
    max_body = MAX_BODY
    worker_connections: int
    max_keepalived: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keepalived_conns: set[Connection] = set()  # handle_request() counts them
        self._conns: set[Connection] = set()
        self._watched: dict[int, Any] = {}  # connections, and gunicorn's listeners, by number
        self._resting: set[Any] = set()  # listeners that accept nobody for now
        self._ready: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._serving: set[Connection] = set()
        self._resting_now = False
        self._at_once = threading.Lock()  # one reader at a time answers, and the other reads
        self._refused: deque[int] = deque()
        self._summary_at = 0.0
        self._hup = False
        self._reload: threading.Thread | None = None

    def init_process(self) -> None:
        self._make_room()
        self.poller = select.epoll()
        super(ThreadWorker, self).init_process()  # without the pool and the pipe of ThreadWorker

    def init_signals(self) -> None:
        # gunicorn resets SIGHUP to its default first, and that is to die.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        super().init_signals()
        signal.signal(signal.SIGHUP, self.handle_hup)
        signal.siginterrupt(signal.SIGHUP, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def handle_hup(self, *_: object) -> None:
        self._hup = True  # the signal wakes the main thread, and that does the rest

    def handle_exit(self, *_: object) -> None:
        self.alive = False

    def handle_quit(self, sig: int, frame: Any) -> None:
        super(ThreadWorker, self).handle_quit(sig, frame)

    def run(self) -> None:
        """Serve until SIGTERM, then let the requests end that have begun."""
        self._waker = select.poll()
        self._waker.register(self.PIPE[0], select.POLLIN)
        for listener in self.sockets:
            listener.setblocking(False)
            self._watched[listener.fileno()] = listener
            self.poller.register(listener.fileno(), select.EPOLLIN | select.EPOLLONESHOT)
        for _ in range(_READERS):
            threading.Thread(target=self._watch, name="reader", daemon=True).start()
        for number in range(self.cfg.threads):
            threading.Thread(target=self._work, name=f"request-{number}", daemon=True).start()
        while self.alive and self.is_parent_alive():
            conns = list(self._conns)
            # A reload that is asked for again waits for the one that runs.
            rests = not self._hup and all(conn in self.keepalived_conns for conn in conns)
            self._resting_now = rests
            first = min((conn.until for conn in conns), default=math.inf) - time.monotonic()
            self._tick(min(max(first, _TICK), _REST) if rests else _TICK)
        self.alive = False
        for listener in self.sockets:
            self.poller.unregister(listener.fileno())
            listener.close()
        now = time.monotonic()
        while self._conns and time.monotonic() < now + self.cfg.graceful_timeout:
            for conn in list(self._conns):
                if conn.draining or conn in self.keepalived_conns:
                    conn.until = min(conn.until, now + _STOP_LINGER)
            self._tick(_STOP_TICK)

    def _make_room(self) -> None:
        """Let the connections that we may have be no more than the descriptors that we may have."""
        wanted = self.worker_connections + _SPARE_FILES
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        have = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (have, hard))
        if have < wanted:
            self.worker_connections = max(have - _SPARE_FILES, self.cfg.threads + 1)
            self.max_keepalived = self.worker_connections - self.cfg.threads
            self.log.warning(
                "Only %d connections at a time: the limit of open files is %d; raise it to %d",
                self.worker_connections, have, wanted,
            )  # fmt: skip

    # The main thread: the heartbeat, the signals and the deadlines.

    def _tick(self, seconds: float) -> None:
        self.notify()
        if self._waker.poll(seconds * 1000):
            os.read(self.PIPE[0], 4096)
        if self._hup and (self._reload is None or not self._reload.is_alive()):
            self._hup = False
            self._reload = threading.Thread(target=self._call_on_hup, name="reload", daemon=True)
            self._reload.start()
        now = time.monotonic()
        for conn in list(self._conns):
            if conn.until <= now:
                conn.expire()
        self._accept_again()
        self._summarise(now)

    def _call_on_hup(self) -> None:
        on_hup = getattr(self.wsgi, "on_hup", None)
        try:
            if on_hup is not None:
                on_hup()
        except Exception:  # whatever it is, the next SIGHUP may go better
            self.log.exception("The reload failed")

    def _summarise(self, now: float) -> None:
        if self._refused and now >= self._summary_at:
            counts = Counter(self._refused.popleft() for _ in range(len(self._refused)))
            text = ", ".join(f"{count} with {status}" for status, count in sorted(counts.items()))
            self.log.warning("Answered without the application: %s", text)
            self._summary_at = now + _SUMMARY_SECONDS

    # The readers.

    def _watch(self) -> None:
        while True:
            for number, _ in self.poller.poll(None, 1):
                target = self._watched.get(number)
                if isinstance(target, Connection):
                    self._attend(target)
                elif target is not None:
                    self._accept(target)

    def _accept(self, listener: Any) -> None:
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                self.log.warning("Cannot accept a connection: %s", error.strerror)
                self._resting.add(listener)  # until the next tick
            else:
                self._listen(listener)
            return
        try:
            server = listener.getsockname()
            if self.cfg.is_ssl:
                sock = self._wrap(sock)
            until = time.monotonic() + self.deadline
            conn = Connection(sock, client, server, tls=self.cfg.is_ssl, until=until)
        except OSError:  # the client has gone already, or our certificate cannot be read
            self.log.debug("A connection failed before its first byte", exc_info=True)
            util.close(sock)
            self._listen(listener)
            return
        self._conns.add(conn)
        self._resting.add(listener)
        self._accept_again()
        self._attend(conn)

    def _wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        # Asked for each connection, as in gunicorn, so that a new certificate needs no restart.
        context: ssl.SSLContext = gunicorn_sock.ssl_context(self.cfg)
        # Without it an end without good-bye, which expire() is too, would silence our side as well.
        context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        sock.setblocking(False)
        return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def _accept_again(self) -> None:
        """Arm the listeners, if there is room."""
        while self._resting and len(self._conns) < self.worker_connections:
            with suppress(KeyError):  # another thread was faster
                self._listen(self._resting.pop())

    def _listen(self, listener: Any) -> None:
        with suppress(OSError, ValueError):  # it is closed when we are stopping
            self.poller.modify(listener.fileno(), select.EPOLLIN | select.EPOLLONESHOT)

    def _attend(self, conn: Connection) -> None:
        """Read what has come, and answer it or have it answered."""
        try:
            fate = self._read(conn)
            if fate is Fate.SERVE:
                conn.until = math.inf
                if self._serving or not self._at_once.acquire(blocking=False):
                    self._ready.put(conn)
                    return
                try:
                    fate = self._answer(conn)
                finally:
                    self._at_once.release()
        except Exception:  # a mistake of ours costs one connection, never a thread
            self.log.exception("A connection is closed because of an internal error")
            fate = Fate.CLOSE
        self._release(conn, fate)

    def _release(self, conn: Connection, fate: Fate) -> None:
        """Arm the connection or close it: the end of our owning it."""
        if fate is Fate.LATER:
            return
        if fate is Fate.WAIT:
            if self._resting_now and conn not in self.keepalived_conns:
                self._resting_now = False
                os.write(self.PIPE[1], b".")  # the main thread must look at its deadline
            with suppress(OSError):  # the kernel has no memory for it
                self._arm(conn)
                return
        self._close(conn)

    def _arm(self, conn: Connection) -> None:
        if conn.armed:
            self.poller.modify(conn.number, conn.wants | select.EPOLLONESHOT)
        else:
            conn.armed = True
            self._watched[conn.number] = conn
            self.poller.register(conn.number, conn.wants | select.EPOLLONESHOT)

    def _close(self, conn: Connection) -> None:
        if conn.armed:
            self._watched.pop(conn.number, None)
        self.keepalived_conns.discard(conn)
        self._conns.discard(conn)
        util.close(conn.socket)
        if self._resting:
            self._accept_again()

    def _read(self, conn: Connection) -> Fate:
        while True:
            data = conn.receive()
            if data is None:
                return Fate.WAIT
            if conn.draining:
                conn.draining -= len(data)
                if not data or conn.draining <= 0:
                    return Fate.CLOSE
            elif not data:
                if conn.buffer and conn.until <= time.monotonic():
                    self._note_refusal(408)
                    text = f"the request did not arrive within {self.deadline:g} s"
                    conn.say(Refusal(408, "timeout", text).answer())
                return Fate.CLOSE
            else:
                conn.buffer += data
                first = conn in self.keepalived_conns
                self.keepalived_conns.discard(conn)
                fate = self._judge(conn, first=first)
                if fate is not Fate.WAIT:
                    return fate
            if len(data) < _CHUNK and not conn.tls:
                return Fate.WAIT

    def _judge(self, conn: Connection, *, first: bool) -> Fate:
        """Is the request at the start of the buffer complete? *first*: it has only just begun."""
        if conn.framing is None:
            conn.framing = Framing(self.max_body)
        try:
            conn.progress = conn.framing.advance(conn.buffer)
            if conn.progress is Progress.PARTIAL:
                self._await_rest(conn, conn.framing)
        except Refusal as refusal:
            self._refuse(conn, refusal)
            return Fate.WAIT
        if conn.progress is not Progress.PARTIAL:
            return Fate.SERVE
        if first:
            conn.until = time.monotonic() + self.deadline
        return Fate.WAIT

    def _note_refusal(self, status: int) -> None:
        """Remember it for the log, and tell the application, which never saw the request."""
        self._refused.append(status)
        on_refused = getattr(self.wsgi, "on_refused", None)
        if on_refused is not None:
            on_refused(status)

    def _refuse(self, conn: Connection, refusal: Refusal) -> None:
        if refusal.status != HTTPStatus.INTERNAL_SERVER_ERROR:  # the log has that already
            self._note_refusal(refusal.status)
        self.log.debug("Refused with %d: %s", refusal.status, refusal)
        conn.say(refusal.answer())
        conn.drain()

    def _await_rest(self, conn: Connection, framing: Framing) -> None:
        if framing.head and framing.expects:
            framing.expects = False
            conn.say(_CONTINUE)
        if len(conn.buffer) > _SMALL:
            held = sum(len(other.buffer) + other.serving for other in list(self._conns))
            if held > MAX_BUFFERED:
                raise Refusal(503, "busy", "too many large requests are arriving; send it again")

    # The threads, and a reader that answers.

    def _work(self) -> None:
        while True:
            conn = self._ready.get()
            try:
                fate = self._answer(conn)
            except Exception:  # as in _attend()
                self.log.exception("A connection is closed because of an internal error")
                fate = Fate.CLOSE
            self._release(conn, fate)

    def _answer(self, conn: Connection) -> Fate:
        """Answer the complete request at the start of the buffer, and those right behind it."""
        if conn.owed is not None:
            (rest, may_stay), conn.owed = conn.owed, None
            conn.write(rest)
            fate = self._after(conn, stays=may_stay)
        else:
            fate = Fate.SERVE
        while fate is Fate.SERVE:
            try:
                stays = self._serve(conn)
            except Refusal as refusal:
                self._refuse(conn, refusal)
                return Fate.WAIT
            fate = Fate.LATER if stays is None else self._after(conn, stays=stays)
        return fate

    def _after(self, conn: Connection, *, stays: bool) -> Fate:
        """Return what becomes of a connection whose request is answered."""
        if not stays:
            if not conn.buffer or conn.broken:
                return Fate.CLOSE
            conn.drain()
            return Fate.WAIT
        if not conn.buffer:
            seconds = self.cfg.keepalive if self.alive else _STOP_LINGER
            conn.until = time.monotonic() + seconds
            self.keepalived_conns.add(conn)
            return Fate.WAIT
        try:
            return self._judge(conn, first=True)
        except Refusal as refusal:
            self._refuse(conn, refusal)
            return Fate.WAIT

    def _serve(self, conn: Connection) -> bool | None:
        """Answer one request; return whether the connection stays, None if it was handed over."""
        conn.until = math.inf
        self._serving.add(conn)
        pieces = conn.take()
        if conn.tls:
            conn.socket.setblocking(True)
        try:
            req = self._parse(conn, pieces)
            if not conn.tls and self._hand_over(conn, req):
                return None
            return self._call(conn, req)
        finally:
            conn.serving = 0
            self._serving.discard(conn)
            if conn.tls:
                with suppress(OSError):
                    conn.socket.setblocking(False)

    def _hand_over(self, conn: Connection, req: Any) -> bool:
        """Offer the request to the application; True if it has taken it."""
        take = getattr(self.wsgi, "take", None)
        if take is None:
            return False
        headers = dict(req.headers)
        taken = Taken(
            method=req.method,
            path=req.path,
            kind=headers.get("CONTENT-TYPE", ""),
            encoding=headers.get("CONTENT-ENCODING", ""),
            body=req.body,
            sender=conn.client[0] if isinstance(conn.client, tuple) else "",
            authorization=headers.get("AUTHORIZATION", ""),
            host=headers.get("HOST", ""),
            origin=headers.get("ORIGIN", ""),
            site=headers.get("SEC-FETCH-SITE", ""),
        )
        stays = self.alive and bool(self.cfg.keepalive) and not req.should_close()

        def tell(status: int, body: bytes, more: Sequence[tuple[str, str]] = ()) -> None:
            self._tell(conn, status, body, more, stays=stays and status != 503)

        return bool(take(taken, tell))

    def _tell(
        self,
        conn: Connection,
        status: int,
        body: bytes,
        more: Sequence[tuple[str, str]],
        *,
        stays: bool,
    ) -> None:
        """Answer a request that was taken. Called once for it, by any thread, which cannot wait."""
        answer = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            f"Connection: {'keep-alive' if stays else 'close'}\r\n"
            "Content-Type: application/json\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            "Cache-Control: no-store\r\n"
            + "".join(f"{name}: {text}\r\n" for name, text in more)
            + f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        rest = conn.pass_on(answer)
        if rest:
            conn.owed = (rest, stays)
            self._ready.put(conn)
            return
        try:
            fate = self._after(conn, stays=stays and not conn.broken)
        except Exception:  # as in _attend()
            self.log.exception("A connection is closed because of an internal error")
            fate = Fate.CLOSE
        if fate is Fate.SERVE:
            self._ready.put(conn)
        else:
            self._release(conn, fate)

    def _parse(self, conn: Connection, pieces: Iterator[bytes]) -> Any:
        """Return gunicorn's request with its body in memory. Raises Refusal, and its alone."""
        parser = http.get_parser(self.cfg, pieces, conn.client)
        parser.req_count = conn.served - 1
        try:
            req = next(parser)
            body = req.body.read()
            rest = parser.unreader.read()
        except (errors.ParseException, OSError, StopIteration, ValueError) as error:
            raise Refusal(_STATUS.get(type(error), 400), "bad_request", str(error)) from error
        if rest or conn.progress is Progress.DOUBTFUL:
            raise Refusal(400, "bad_request", "it is not clear where the request ends")
        req.body = io.BytesIO(body)
        req._expected_100_continue = False  # noqa: SLF001  it has come; gunicorn would say it again
        return req

    def _call(self, conn: Connection, req: Any) -> bool:
        reply = Reply(conn)
        try:
            stays = bool(self.handle_request(req, reply))
            reply.flush()
        except StopIteration:  # gunicorn closed it: the application failed in the middle
            return False
        except (Exception, SystemExit) as error:
            if conn.broken:
                self.log.debug("The client did not take its answer: %s", error)
                return False
            self.log.exception("Error handling request %s %s", req.method, req.uri)
            if reply.started:
                return False
            raise Refusal(500, "internal", "the request failed; the log says why") from error
        return stays and not reply.unavailable
