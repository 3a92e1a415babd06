"""One client's socket, and what has arrived of its next request."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final

from receiver.web.server.framing import Framing, Progress

SEND_DEADLINE: Final = 30.0
"""Seconds for a client to read an answer."""
CHUNK: Final = 64 * 1024
"""Bytes of one recv()."""

_PIECE: Final = 1024 * 1024  # bytes that the parser is handed at once
_CHUNKED_PIECE: Final = 8 * 1024  # its chunk reader copies the rest of the piece for each chunk
_DRAIN_SECONDS: Final = 5.0  # for a refused client to stop sending and read why
_DRAIN_BYTES: Final = 64 * 1024 * 1024  # the same


class Connection:
    """Not safe to use from several threads: the one that got its event owns it."""

    __slots__ = (
        "armed", "broken", "buffer", "client", "draining", "events", "framing", "handshaken",
        "number", "progress", "served", "server", "serving", "socket", "stays", "tls", "unsent",
        "until",
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
        """When it expires, on the monotonic clock."""
        self.buffer = bytearray()
        self.framing: Framing | None = None
        self.progress = Progress.PARTIAL
        self.served = 0
        """Requests so far."""
        self.serving = 0
        """Bytes of the request that is being answered."""
        self.draining = 0
        """Bytes that may still be read and discarded after a refusal; 0 if there was none."""
        self.armed = False
        """Registered with the poller."""
        self.events = select.EPOLLIN
        self.handshaken = False
        self.broken = False
        """The client is gone."""
        self.unsent: deque[memoryview] = deque()
        """What of an answer the client has yet to read. No further request is read before."""
        self.stays = True
        """Whether the connection stays open once that is sent."""

    def receive(self) -> bytes | None:
        """Return what has arrived, b"" at the end, None if there is nothing yet."""
        self.events = select.EPOLLIN
        try:
            if not self.tls:
                # The socket stays blocking, for the answer: this saves four calls a request.
                return self.socket.recv(CHUNK, socket.MSG_DONTWAIT)
            if not self.handshaken:
                self.socket.do_handshake()  # type: ignore[attr-defined]  # an SSLSocket
                self.handshaken = True
            return self.socket.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:
            self.events = select.EPOLLOUT
            return None
        except OSError:
            return b""

    def take(self) -> Iterator[bytes]:
        """Cut the request off the buffer, in pieces that gunicorn's parser reads fast."""
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

    def send_if_room(self, data: bytes) -> None:
        """Send a few bytes if the kernel takes them at once."""
        with suppress(OSError):
            self._send(data)

    def send(self, data: bytes) -> None:
        """Send *data*, and keep what the client does not read yet; never blocks.

        Raises OSError if the client is gone.
        """
        if self.unsent:
            self.unsent.append(memoryview(data))
            return
        sent = self._try(data)
        if sent < len(data):
            self.unsent.append(memoryview(data)[sent:])
            self.until = time.monotonic() + SEND_DEADLINE

    def flush(self) -> bool:
        """Send what was kept; return whether the client has read all but what the kernel holds.

        Raises OSError if the client is gone.
        """
        unsent = self.unsent  # drop() may put another one in its place
        while unsent:
            rest = unsent[0]
            sent = self._try(rest[:_PIECE])
            if not sent:
                return False
            if sent < len(rest):
                unsent[0] = rest[sent:]
            else:
                unsent.popleft()
        return True

    def kept(self) -> int:
        """Return the bytes of memory that hold what is unsent: whole pieces, however little is."""
        return sum(memoryview(rest.obj).nbytes for rest in list(self.unsent))

    def _try(self, data: bytes | memoryview) -> int:
        """Return how many bytes the kernel takes at once."""
        try:
            return self._send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError:
            self.broken = True
            self.unsent = deque()
            raise

    def _send(self, data: bytes | memoryview) -> int:
        return self.socket.send(data, 0 if self.tls else socket.MSG_DONTWAIT)

    def drain(self) -> None:
        """Close our side, and give the client a moment to close its own.

        If we closed at once, the kernel would answer what is still arriving with a reset, which can
        overtake our answer: RFC 9112 section 9.6.
        """
        self.buffer = bytearray()
        self.draining = _DRAIN_BYTES
        self.until = time.monotonic() + _DRAIN_SECONDS
        self._shut(socket.SHUT_WR)

    def expire(self) -> None:
        """Make the owner see the end. Any thread may call it and `drop`; all else, only the owner.

        What has arrived can still be read: a request that waited for a thread is served.
        """
        self._shut(socket.SHUT_RDWR if self.unsent else socket.SHUT_RD)

    def drop(self) -> None:
        """Expire it, and give back at once what is unsent: its owner may have other things to do.

        Safe from any thread: after the shutdown, no more of it reaches the client.
        """
        self._shut(socket.SHUT_RDWR)
        self.broken = True
        self.unsent = deque()

    def _shut(self, how: int) -> None:
        with suppress(OSError):
            socket.socket.shutdown(self.socket, how)  # SSLSocket's own drops the session
