"""Redis, asked in RESP2 over one connection that ends in time.

https://redis.io/docs/latest/develop/reference/protocol-spec/ is five types of answers. redis-py
knows them too, but starts its time-out anew with each packet, retries on its own, and reads an
answer of any size; to bound that takes more than this file.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final
from urllib.parse import urlsplit

import msgspec

from receiver.clients.dial import Socket, dial, wrap_tls
from receiver.errors import ActionError
from receiver.policy.texts import FilePath
from receiver.redaction import known

_PORT: Final = 6379
_MAX_LINE: Final = 65_536  # bytes
_MAX_BYTES: Final = 32 * 1024 * 1024  # of one answer
_MAX_ITEMS: Final = 1_000_000  # of one answer
_MAX_DEPTH: Final = 4  # arrays in arrays; SCAN's answer has 2

Word = str | bytes | int | float

_HINTS: Final = {
    "NOAUTH": "write `username` and `password_file`",
    "WRONGPASS": "check `username` and `password_file`",
    "NOPERM": "give the user this right, see ACL SETUSER",
    "READONLY": "this is a replica; name the primary",
    "MOVED": "Redis Cluster is not supported",
    "CROSSSLOT": "Redis Cluster is not supported",
    "LOADING": "it still reads its data from disk",
    "BUSY": "a script of somebody holds it up; `SCRIPT KILL` ends one",
}
_PASSING: Final = frozenset({"LOADING", "BUSY"})
"""Refusals that pass, and for which nothing was done."""
_POLL: Final = 0.2  # seconds


def _url(text: str) -> str:
    """Return the URL of a database. Raises ValueError with what is wrong with it."""
    parts = urlsplit(text)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.port == 0:
        raise ValueError(f"{text!r} is no address; write redis://HOST:PORT/DATABASE, or rediss://")
    if "@" in parts.netloc:
        raise ValueError("no user and no password in a URL; write `username` and `password_file`")
    database = parts.path.removeprefix("/")
    if parts.query or parts.fragment or (database and not database.isdecimal()):
        raise ValueError(f"{text!r}: after HOST:PORT only /NUMBER, the database, is understood")
    return text


RedisUrl = Annotated[
    str,
    msgspec.Meta(
        extra={"type": "URL", "parse": _url},
        extra_json_schema={"pattern": "^rediss?://[^/@?#]+(/[0-9]*)?$"},
    ),
]
"""`redis://HOST:PORT/DATABASE`, or `rediss://` for TLS."""


def database_of(url: str) -> int:
    """Return the number of the database that a URL names."""
    return int(urlsplit(url).path.removeprefix("/") or 0)


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """How to be let in."""

    username: str | None = None
    """Of Redis' ACL; with `password_file`."""
    password_file: FilePath | None = None
    """A file that holds the password; read at each use."""
    ca_file: FilePath | None = None
    """Certificates to verify a `rediss://` server with, instead of the system's."""

    def __post_init__(self) -> None:
        if self.username is not None and self.password_file is None:
            raise ValueError("`username` needs a `password_file`")

    def words(self) -> tuple[str, ...]:
        """Return the arguments of AUTH; none without a password."""
        if self.password_file is None:
            return ()
        try:
            password = Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ActionError(f"password_file {self.password_file!r}: {error}") from None
        known(password)
        return (password,) if self.username is None else (self.username, password)

    def context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ActionError(f"ca_file {self.ca_file!r}: {error}") from None


class Redis:
    """A database, asked one command after the other."""

    def __init__(self, url: str, sock: socket.socket, answers: BinaryIO, deadline: float) -> None:
        self._url = url
        self._deadline = deadline
        self._sock = sock
        self._answers = answers

    def __call__(self, command: str, *words: Word) -> Any:
        """Return the answer: bytes, an integer, None, or a list of them.

        Waits while it is just being started. Raises ActionError when the answer is an error.
        """
        parts = [_encoded(word) for word in (command, *words)]
        head = b"*%d\r\n" % len(parts)
        sent = head + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
        while True:
            self._sock.sendall(sent)
            try:
                return _Answer(self._answers).read()
            except _RefusedError as error:
                code, _, text = str(error).partition(" ")
            if code in _PASSING and time.monotonic() + _POLL < self._deadline:
                time.sleep(_POLL)
                continue
            if command == "AUTH":  # who does not know the command repeats its arguments
                text = ""
            hint = _HINTS.get(code)
            raise ActionError(
                f"Redis at {self._url} refused {command}: {code} {text}".rstrip()
                + (f"; {hint}" if hint else "")
            )

    def started_at(self) -> float:
        """Return when it was started, in seconds since the epoch and by its own clock."""
        now = int(self("TIME")[0])
        for line in self("INFO", "server").splitlines():
            name, _, value = line.partition(b":")
            if name == b"uptime_in_seconds":
                return now - _number(value)
        raise ActionError(f"Redis at {self._url} does not tell since when it runs")

    def scan(self, match: str, *words: Word) -> Iterator[list[bytes]]:
        """Yield the keys that match, some at a time; one may come twice.

        A key that is there from the beginning to the end is among them.
        https://redis.io/docs/latest/commands/scan/
        """
        cursor = b"0"
        while True:
            cursor, keys = self("SCAN", cursor, "MATCH", match, "COUNT", 1000, *words)
            if keys:
                yield keys
            if cursor == b"0":
                return


@contextmanager
def asked(url: str, login: Login, deadline: float) -> Iterator[Redis]:
    """Give the database of *url*; what goes wrong with it is an ActionError that names it.

    *deadline* is on the monotonic clock, and for everything together.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    context = login.context() if parts.scheme == "rediss" else None
    credentials = login.words()
    began = time.monotonic()
    try:
        with (
            _connected(parts.hostname, parts.port or _PORT, deadline, context) as sock,
            sock.makefile("rb") as answers,
        ):
            redis = Redis(url, sock, answers, deadline)
            if credentials:
                redis("AUTH", *credentials)
            if database := database_of(url):
                redis("SELECT", database)
            yield redis
    except (OSError, _NoRedisError) as error:
        if isinstance(error, TimeoutError):
            problem = f"was not done within {deadline - began:.1f} s"
        elif isinstance(error, _NoRedisError):
            problem = f"does not speak Redis' protocol: {error}"
        else:
            problem = f"cannot be reached: {error.strerror or error}"
        raise ActionError(f"Redis at {url} {problem}") from None


def _connected(host: str, port: int, deadline: float, context: ssl.SSLContext | None) -> Socket:
    sock = dial(host, port, deadline)
    return sock if context is None else wrap_tls(sock, context, host)


class _NoRedisError(Exception):
    """What came is no answer of Redis."""


class _RefusedError(Exception):
    """What came is an error."""


class _Answer:
    """One answer, bounded."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes = _MAX_BYTES
        self._items = _MAX_ITEMS

    def read(self, depth: int = 0) -> Any:
        line = self._file.readline(_MAX_LINE)
        if not line.endswith(b"\r\n"):
            if line:
                raise _NoRedisError("a line of it has no end")
            raise ConnectionResetError("it closed the connection")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest
            case b"-":
                raise _RefusedError(rest.decode("utf-8", "replace")[:500])
            case b":":
                return _number(rest)
            case b"$":
                return self._bulk(_number(rest))
            case b"*" if depth < _MAX_DEPTH:
                count = _number(rest)
                self._items -= count
                if self._items < 0:
                    raise _NoRedisError(f"an answer of more than {_MAX_ITEMS} items")
                return None if count < 0 else [self.read(depth + 1) for _ in range(count)]
            case _:
                raise _NoRedisError(f"an answer cannot begin with {kind!r}")

    def _bulk(self, size: int) -> bytes | None:
        if size < 0:
            return None
        self._bytes -= size
        if self._bytes < 0:
            raise _NoRedisError(f"an answer of more than {_MAX_BYTES} bytes")
        data = self._file.read(size + 2)
        if len(data) < size + 2:
            raise ConnectionResetError("it closed the connection")
        return data[:-2]


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise _NoRedisError(f"{text[:40]!r} is no number") from None


def _encoded(word: Word) -> bytes:
    if isinstance(word, bytes):
        return word
    return (word if isinstance(word, str) else repr(word)).encode()
