"""Who asks over HTTP, and for how long? Every caller, through one client.

An exchange is bounded in time, from the connection to the last byte, and in size. Nothing comes
from the environment or .netrc but what an `http_config` asks for. Redirects lead elsewhere, so they
are followed only when asked for; each URL is judged by *allowed* before, and another host gets none
of our headers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec

from receiver.clients.dial import PORTS
from receiver.clients.http_credentials import CredentialsError, learn_secrets
from receiver.clients.http_credentials import headers as configured
from receiver.clients.http_proxy import proxy_for
from receiver.clients.http_tls import tls_context
from receiver.policy.http_config import PLAIN, HTTPConfig
from receiver.redaction import redact

if TYPE_CHECKING:  # requests takes 60 ms to import, and `promheal --help` does not need it
    import requests

    from receiver.clients.http_session import HTTPRoute, Session

_CHUNK: Final = 65_536  # bytes
_MAX_WORDS: Final = 300  # characters
_MOST_REDIRECTS: Final = 10  # as Go's client
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PLAIN: Final = frozenset({"accept", "connection", "user-agent"})
"""Headers that another host may get too."""

Fields = Iterable[tuple[str, str]]


class NoReplyError(Exception):
    """No reply came: refused, late, broken off, not HTTP, or never asked for."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.unsent = isinstance(error, CredentialsError)
        """Whether nothing was sent, since a file of the `http_config` cannot be used."""
        self.causes = (error,) if self.unsent else tuple(_causes(error))
        """From the outermost to the innermost."""

    @property
    def late(self) -> bool:
        """Whether the time was over."""
        return any(isinstance(cause, TimeoutError) for cause in self.causes)

    @property
    def cause(self) -> BaseException:
        """The innermost; what wraps it repeats the whole URL."""
        return self.causes[-1]

    @property
    def words(self) -> str:
        """The reason, such as `Connection refused`."""
        cause = self.cause
        text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        return (redact(text) or type(cause).__name__)[:_MAX_WORDS]


class HTTPReply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, as it came."""

    status: int
    reason: str
    """What the other side calls its status."""
    body: bytes
    """No more than was asked for."""
    cut: bool = False
    """Whether there was more."""
    location: str = ""
    seconds: float
    """From the first request until the head of this reply came."""
    date: str = ""
    """When it was sent, by the other side's clock."""


class HTTPClient:
    """Asks as an `http_config` says. Safe to use from many threads.

    Without *keep_alive* each exchange has a connection of its own. With a *socket_path* this Unix
    socket is connected, whatever the host's name is.
    """

    def __init__(
        self,
        config: HTTPConfig = PLAIN,
        *,
        keep_alive: bool = False,
        socket_path: str = "",
    ) -> None:
        learn_secrets(config)
        self._config = config
        self._keep_alive = keep_alive
        self._socket_path = socket_path
        self._lock = threading.Lock()
        self._session: Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def request(
        self,
        method: str,
        url: str,
        *,
        timeout: float,
        most: int,
        headers: Mapping[str, str | bytes] = {},
        params: Fields = (),
        data: Fields | bytes | None = None,
        allowed: Callable[[str], object] = lambda _: None,
    ) -> HTTPReply:
        """Send one request and return the reply, whatever its status.

        *timeout* is for all of it, and at most *most* bytes of its body are kept; with 0 it is not
        waited for. *allowed* raises when a URL may not be asked. Raises NoReplyError.
        """
        import requests  # noqa: PLC0415  see above

        from receiver.clients.http_session import FAILURES  # noqa: PLC0415

        deadline = time.monotonic() + timeout
        session = self._ready()
        try:
            prepared = session.prepare_request(
                requests.Request(
                    method,
                    url,
                    params=list(params),
                    data=data if isinstance(data, bytes | None) else list(data),
                    headers=self._headers(headers),
                )
            )
            for _ in range(_MOST_REDIRECTS):
                assert prepared.url is not None
                allowed(prepared.url)
                reply = _sent(session, prepared, deadline - timeout, deadline, most)
                if not (self._config.follow_redirects and _leads(reply)):
                    return reply
                prepared = _following(prepared, reply)
                if not self._keep_alive:
                    session.close()  # its connections: the other side closes them too
            raise NoReplyError(OSError(f"more than {_MOST_REDIRECTS} redirects"))
        except (*FAILURES, CredentialsError) as error:
            raise NoReplyError(error) from None
        finally:
            if not self._keep_alive:
                session.close()

    def connect(self, url: str, *, timeout: float) -> None:
        """Connect, and ask nothing. Raises NoReplyError."""
        from receiver.clients.http_session import FAILURES  # noqa: PLC0415  see above

        try:
            self._way(urlsplit(url)).connect(time.monotonic() + timeout).close()
        except (*FAILURES, CredentialsError) as error:
            raise NoReplyError(error) from None

    def _ready(self) -> Session:
        from receiver.clients.http_session import Session  # noqa: PLC0415  see above

        if not self._keep_alive:
            return Session(self._way)
        with self._lock:
            if self._session is None:
                self._session = Session(self._way)
            return self._session

    def _headers(self, given: Mapping[str, str | bytes]) -> dict[str, str | bytes]:
        """Return those of the caller, which win, ours, and those of the `http_config`."""
        found = {name: value.strip() for name, value in given.items()}
        names = {name.lower() for name in found}
        if "user-agent" not in names:
            found["User-Agent"] = "promheal"
        if not self._keep_alive and "connection" not in names:
            found["Connection"] = "close"
        more: dict[str, list[str]] = {}
        for name, value in configured(self._config):
            if name.lower() not in names:
                more.setdefault(name, []).append(value)
        # One line with commas means the same as several: RFC 9110, 5.3.
        return found | {name: ", ".join(values).encode() for name, values in more.items()}

    def _way(self, url: SplitResult) -> HTTPRoute:
        from receiver.clients.http_session import HTTPRoute  # noqa: PLC0415  see above

        tls = self._config.tls
        return HTTPRoute(
            url,
            context=tls_context(tls) if url.scheme == "https" else None,
            server_name=tls.server_name,
            proxy=None if self._socket_path else proxy_for(self._config, url),
            socket_path=self._socket_path,
        )


def _sent(
    session: Session, prepared: requests.PreparedRequest, began: float, deadline: float, most: int
) -> HTTPReply:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    with session.send(prepared, timeout=left, stream=True, allow_redirects=False) as response:
        seconds = time.monotonic() - began
        body = bytearray()
        while most and len(body) <= most and (chunk := response.raw.read1(_CHUNK)):
            body += chunk
        return HTTPReply(
            status=response.status_code,
            reason=response.reason or "",
            body=bytes(body[:most]),
            cut=len(body) > most,
            location=response.headers.get("Location", ""),
            seconds=seconds,
            date=response.headers.get("Date", ""),
        )


def _leads(reply: HTTPReply) -> bool:
    return reply.status in _REDIRECTS and bool(reply.location)


def _following(before: requests.PreparedRequest, reply: HTTPReply) -> requests.PreparedRequest:
    """Return the request to where *reply* leads, as browsers and Go make it."""
    after = before.copy()
    target = urlsplit(urljoin(before.url or "", reply.location))
    if target.scheme not in PORTS or not target.hostname:
        raise OSError(f"a redirect to {reply.location[:200]!r}, which cannot be followed")
    after.url = target._replace(fragment="").geturl()
    changed = reply.status in {301, 302, 303} and before.method not in {"GET", "HEAD"}
    if changed:
        after.method, after.body = "GET", None
    here = urlsplit(before.url or "")
    elsewhere = (here.scheme, here.netloc) != (target.scheme, target.netloc)
    for name in list(after.headers):
        plain = name.lower() in _PLAIN
        content = name.lower().startswith("content-")
        if (elsewhere and not plain and not content) or (changed and content):
            del after.headers[name]
    return after


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        wrapped = next((one for one in error.args if isinstance(one, BaseException)), None)
        error = error.__cause__ or error.__context__ or wrapped
