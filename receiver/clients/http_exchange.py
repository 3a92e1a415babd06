"""One exchange with a host that the operator named, for actions and services."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from receiver.clients.http import HTTPClient, NoReplyError
from receiver.clients.http import HTTPReply as HTTPReply  # noqa: PLC0414  who fetches needs both
from receiver.clients.url import split_url
from receiver.errors import ActionError
from receiver.policy.http_config import PLAIN, HTTPConfig
from receiver.redaction import redact

_MAX_BODY: Final = 65_536  # bytes that are read of an answer
_MAX_SHOWN: Final = 2_000  # characters of it that are kept
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class HTTPAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A reply as an operator wants to see it."""

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


def fetch(
    method: str,
    url: str,
    *,
    timeout: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    most: int = _MAX_BODY,
    config: HTTPConfig = PLAIN,
    socket_path: str = "",
    allowed: Callable[[str], object] = lambda _: None,
) -> HTTPReply:
    """Send one request and return the reply, whatever its status; *timeout* is for all of it.

    At most *most* bytes of its body are read. *allowed* raises when a redirect leads where nobody
    may ask. Raises ActionError without a reply.
    """
    try:
        split_url(url)
    except ValueError as error:
        raise ActionError(f"{url[:200]!r} is refused: {error}") from None
    for name, value in (headers or {}).items():
        if _CONTROL.search(value):
            raise ActionError(f"the value of header {name} holds a control character")
    try:
        return HTTPClient(config, socket_path=socket_path).request(
            method,
            url,
            timeout=timeout,
            most=most,
            headers={name: value.encode() for name, value in (headers or {}).items()},
            data=body,
            allowed=allowed,
        )
    except NoReplyError as error:
        if error.unsent:
            raise ActionError(str(error)) from None
        cause = error.cause
        problem = f"not within {timeout:g} s" if error.late else str(cause) or type(cause).__name__
        raise ActionError(f"{method} {url} got no answer: {problem}") from None


def reach(url: str, config: HTTPConfig, *, timeout: float) -> None:
    """Connect, and ask nothing. Raises ActionError."""
    try:
        HTTPClient(config).connect(url, timeout=timeout)
    except NoReplyError as error:
        raise ActionError(f"{url} cannot be connected: {error}") from None


def exchange(
    method: str,
    url: str,
    *,
    timeout: float,
    json: dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    config: HTTPConfig = PLAIN,
    allowed: Callable[[str], object] = lambda _: None,
) -> HTTPAnswer:
    """Send one request, as `fetch`, and return what an operator wants to see of the answer."""
    began = time.monotonic()
    sent = {} if json is None else {"Content-Type": "application/json"}
    reply = fetch(
        method,
        url,
        timeout=timeout,
        body=None if json is None else msgspec.json.encode(json),
        headers={**sent, **(headers or {})},
        config=config,
        allowed=allowed,
    )
    return HTTPAnswer(
        status=reply.status,
        seconds=round(time.monotonic() - began, 3),
        body=redact(reply.body.decode("utf-8", "replace").replace("\0", "\ufffd"))[:_MAX_SHOWN],
        location=reply.location,
    )
