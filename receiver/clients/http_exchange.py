"""One HTTP exchange: bounded in time and size, and with no host but the one that was checked.

What is refused, and why (OWASP API7:2023, server side request forgery):

- what servers, proxies and libraries read differently: user info, fragments, backslashes, control
  characters, and `..` in any encoding;
- redirects, which lead elsewhere; and proxies and passwords from the environment or .netrc.

Names are resolved when called. They are the operator's, so an alert cannot make one resolve to
another address.
"""

from __future__ import annotations

import http.client
import re
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from receiver.clients.dial import PORTS, connected
from receiver.errors import ActionError
from receiver.redaction import redact

_MAX_BODY: Final = 65_536  # bytes that are read of an answer
_MAX_SHOWN: Final = 2_000  # characters of it that are kept
_ENCODED: Final = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


# ── which URL? ──


def refuse_unless_allowed(url: str, allowed: Iterable[str]) -> None:
    """Raise ActionError unless *url* is below one of the *allowed* prefixes."""
    try:
        parts = split_url(url)
    except ValueError as error:
        raise ActionError(f"{url[:200]!r} is refused: {error}") from None
    listed = tuple(allowed)
    if not any(_is_below(parts, prefix) for prefix in listed):
        known = ", ".join(listed[:20]) or "nothing"
        raise ActionError(f"{url[:200]!r} is refused: `http.allow` in promheal.yml has {known}")


def _is_below(parts: SplitResult, prefix: str) -> bool:
    try:
        base = split_url(prefix)
    except ValueError:
        return False  # it cannot say what is below it
    path = base.path.rstrip("/")
    return (
        _origin(base) == _origin(parts)
        and not base.query
        and (path in {"", parts.path} or parts.path.startswith(f"{path}/"))
    )


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL that everybody reads alike. Raises ValueError with what is wrong.

    https://url.spec.whatwg.org/ and RFC 3986 differ in what is refused here.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(
            "it holds a space, a backslash, a control or a non-ASCII character; percent-encode it"
        )
    if not _ENCODED.fullmatch(url):
        raise ValueError("a % in it begins no percent-encoding")
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        raise ValueError("only http:// and https:// are called")
    host = parts.netloc
    if not parts.hostname or parts.port == 0 or set(host) & set("@%") or host.endswith(":"):
        raise ValueError("its host must be a name or an address, and a port if need be; no user")
    if "#" in url:
        raise ValueError("it has a fragment, which is not sent")
    if _leads_astray(parts.path):
        raise ValueError(
            "its path holds `.`, `..`, `\\` or a control character, as such or encoded"
        )
    return parts


def http_url(text: str) -> str:
    """Return a URL of a configuration file. Raises ValueError with what is wrong with it."""
    try:
        split_url(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no URL that can be called: {error}") from None
    return text


def _leads_astray(path: str) -> bool:
    """Whether a path, decoded once or more often on its way, leads out of where it seems to be."""
    while True:
        # `..;x` is `..` to servers that know path parameters.
        segments = {segment.partition(";")[0] for segment in path.split("/")}
        if segments & {".", ".."} or "\\" in path or _CONTROL.search(path):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded


# ── the call ──


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    seconds: float
    body: str
    """Its beginning, decoded as UTF-8 as far as it goes."""
    location: str = ""
    """Where a redirect would have led."""

    @property
    def words(self) -> str:
        to = f" to {self.location[:200]!r}" if self.location else ""
        try:
            return f"{self.status} {HTTPStatus(self.status).phrase}{to}"
        except ValueError:
            return f"{self.status}{to}"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, as it came."""

    status: int
    body: bytes
    """No more than was asked for."""
    location: str
    date: str
    """When it was sent, by the other side's clock."""


def fetch(
    method: str,
    url: str,
    *,
    timeout: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    most: int = _MAX_BODY,
    tls: ssl.SSLContext | None = None,
    socket_path: str = "",
) -> Reply:
    """Send one request and return the reply, whatever its status; *timeout* is for all of it.

    At most *most* bytes of its body are read. The standard library's client sends just what was
    checked here: it follows nothing, decodes nothing, and asks neither the environment nor .netrc.
    *tls* and *socket_path* are as in `connected`. Raises ActionError without a reply.
    """
    try:
        parts = split_url(url)
    except ValueError as error:
        raise ActionError(f"{url[:200]!r} is refused: {error}") from None
    sent = {"User-Agent": "promheal", "Connection": "close", **(headers or {})}
    for name, value in sent.items():
        if _CONTROL.search(value):
            raise ActionError(f"the value of header {name} holds a control character")
    overdue = threading.Event()
    deadline = time.monotonic() + timeout
    try:
        with connected(parts, deadline, overdue, tls=tls, socket_path=socket_path) as connection:
            connection.request(
                method,
                f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}",
                body=body,
                headers={name: value.encode() for name, value in sent.items()},
            )
            response = connection.getresponse()
            found = response.read(most)
        if overdue.is_set():
            raise TimeoutError
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = overdue.is_set() or isinstance(error, TimeoutError)
        problem = f"not within {timeout:g} s" if late else str(error) or type(error).__name__
        raise ActionError(f"{method} {url} got no answer: {problem}") from None
    return Reply(
        status=response.status,
        body=found,
        location=response.getheader("Location", ""),
        date=response.getheader("Date", ""),
    )


def exchange(
    method: str,
    url: str,
    *,
    timeout: float,
    json: dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request, as `fetch`, and return what an operator wants to see of the answer."""
    began = time.monotonic()
    sent = {} if json is None else {"Content-Type": "application/json"}
    reply = fetch(
        method,
        url,
        timeout=timeout,
        body=None if json is None else msgspec.json.encode(json),
        headers={**sent, **(headers or {})},
    )
    return Answer(
        status=reply.status,
        seconds=round(time.monotonic() - began, 3),
        body=redact(reply.body.decode("utf-8", "replace").replace("\0", "\ufffd"))[:_MAX_SHOWN],
        location=reply.location,
    )
