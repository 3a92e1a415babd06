"""Which URLs may be called, and does everybody read them alike?

What is refused, and why (OWASP API7:2023, server side request forgery): what servers, proxies and
libraries read differently, which is user info, fragments, backslashes, control characters, and `..`
in any encoding.

Names are resolved when called. They are the operator's, so an alert cannot make one resolve to
another address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from receiver.clients.dial import PORTS
from receiver.errors import ActionError

_ENCODED: Final = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


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
