"""Where does an HTTP/1.1 request end? Answered from bytes alone, without a socket or a parser.

Only Content-Length and Transfer-Encoding are read, as far as RFC 9112 section 6.3 needs in order to
wait for the rest. Anything ambiguous is `DOUBTFUL`: gunicorn's parser gets it at once and must
refuse it, so the two can never disagree about where a request ends.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from http import HTTPStatus
from typing import Final

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request line with its headers; gunicorn's own limits are lower."""
MAX_BODY: Final = 8 * 1024 * 1024
"""Bytes of a body, not counting chunk framing."""

_MAX_CHUNK_LINE: Final = 8192  # bytes, as in gunicorn
_MAX_FRAMING: Final = 64 * 1024  # bytes of chunk framing beyond twice the content

_FRAMING_FIELD: Final = re.compile(
    rb"\r\n(content-length|transfer-encoding|expect)[ \t]*:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)",
    re.IGNORECASE,
)
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}(?=[ \t;\r])")


class Refusal(Exception):  # noqa: N818  an answer, not an error
    """The request is answered without the application, and its connection is closed."""

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
    """How much of a request has arrived."""

    PARTIAL = 0
    COMPLETE = 1
    DOUBTFUL = 2
    """The parser will refuse it, but where it ends is ambiguous."""


class Framing:
    """Finds the end of the request at the start of a growing buffer. One object a request."""

    __slots__ = ("_at", "_content", "_length", "_limit", "_seen", "end", "expects", "head")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen = 0
        self._length: int | None = 0
        """Bytes of the body; None for a chunked one."""
        self._at = 0
        """Where the next chunk starts."""
        self._content = 0
        """Bytes of content in the chunks before it."""
        self.head = 0
        """Bytes up to and including the empty line after the headers; 0 until it has arrived."""
        self.end = 0
        """Bytes of the request, once it is complete."""
        self.expects = False
        """The client is waiting for 100 Continue."""

    @property
    def chunked(self) -> bool:
        return self._length is None

    def advance(self, buffer: bytearray) -> Progress:
        """Return how much of the request is in *buffer*, which only grows between calls.

        Raises Refusal if the head or the body is too large.
        """
        if not self.head:
            found = buffer.find(b"\r\n\r\n", max(0, self._seen - 3))
            if (found if found >= 0 else len(buffer)) > MAX_HEAD:
                raise Refusal(431, "headers_too_large", f"the headers exceed {MAX_HEAD} bytes")
            if found < 0:
                # gunicorn accepts CRLF only: an empty line that ends in LF would never be found.
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
        """Return whether the length of the body is unambiguous."""
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
            # One-byte chunks cost us far more to read than they cost the sender.
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
