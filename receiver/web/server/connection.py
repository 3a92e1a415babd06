"""One client's socket, and what has arrived of its next request."""

from __future__ import annotations

import math
import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final

from receiver.web.server.framing import Framing, Progress

SEND_DEADLINE: Final = 30.0
"""Seconds for a client to read one piece of an answer."""
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
        "number", "progress", "served", "server", "serving", "socket", "tls", "unsent", "until",
        "writing",
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
        self.writing = False
        self.broken = False
        self.unsent: tuple[bytes, bool] | None = None
        """What a thread has yet to send, and whether the connection stays open afterwards."""

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
            if self.tls:
                self.socket.send(data)
            else:
                self.socket.send(data, socket.MSG_DONTWAIT)

    def send_some(self, data: bytes) -> bytes:
        """Send what the kernel takes at once; return the rest."""
        try:
            return data[self.socket.send(data, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return data
        except OSError:
            self.broken = True
            return b""

    def write(self, data: bytes) -> None:
        """Send *data*, blocking; raises OSError if the client does not read it in time."""
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
        """Make the owner see the end. The only call that a thread other than the owner may make.

        What has arrived can still be read: a request that waited for a thread is served.
        """
        self._shut(socket.SHUT_RDWR if self.writing else socket.SHUT_RD)

    def _shut(self, how: int) -> None:
        with suppress(OSError):
            socket.socket.shutdown(self.socket, how)  # SSLSocket's own drops the session
