"""`http`: call a URL of the allow-list. Labels go into its path, query and body, never its host.

What is refused, and why (OWASP API7:2023, server side request forgery):

- a URL that is not below one of `http.allow`: scheme, host and port as they stand there, and the
  path on a segment's boundary;
- a template in the scheme, host or port;
- what servers, proxies and libraries read differently: user info, fragments, backslashes, control
  characters, and `..` in any encoding;
- redirects, which lead elsewhere; and proxies and passwords from the environment or .netrc.

Names are resolved when called. They are the operator's, so an alert cannot make one resolve to
another address.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from receiver.actions import Action, Context
from receiver.connected import PORTS, connected
from receiver.errors import ActionError
from receiver.services import Inventory
from receiver.template import ProseText, UrlText, is_template, problems_in, sample

_MAX_BODY: Final = 65_536  # bytes that are read of an answer
_MAX_SHOWN: Final = 2_000  # characters of it that are kept
_LITERAL_HOST: Final = re.compile(r"https?://[^/?#{]+(?:[/?].*)?", re.IGNORECASE | re.DOTALL)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_ENCODED: Final = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_OURS: Final = frozenset({"connection", "content-length", "host", "transfer-encoding"})


class Method(StrEnum):
    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


_IDEMPOTENT: Final = frozenset({Method.GET, Method.PUT, Method.DELETE})  # RFC 9110, 9.2.2


class Undo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The request that takes it back, with the same headers."""

    url: UrlText
    method: Method = Method.POST
    json: dict[str, Any] | None = None


class HttpParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: UrlText
    method: Method = Method.POST
    json: dict[str, Any] | None = None
    """The body; strings in it may be templates."""
    headers: dict[str, ProseText] = {}
    bearer_token_file: str | None = None
    """Path of a file with a token, read at each call: headers are kept in the journal."""
    expect_status: tuple[int, ...] = ()
    """Any 2xx when left out."""
    idempotent: bool | None = None
    """Whether it may be sent again when we died meanwhile; by its method when left out."""
    undo: Undo | None = None


class Http(Action):
    name = "http"
    Params = HttpParams
    timeout = 30.0

    def idempotent(self, params: HttpParams) -> bool:
        return params.method in _IDEMPOTENT if params.idempotent is None else params.idempotent

    def problems(self, params: HttpParams, inventory: Inventory) -> Iterable[str]:
        urls = [("url", params.url)]
        if params.undo is not None:
            urls.append(("undo.url", params.undo.url))
        for field, url in urls:
            if problem := _url_problem(url):
                yield f"{field}: {problem}"
                continue
            try:
                refuse_unless_allowed(sample(url), inventory.allowed_urls)
            except ActionError as error:
                yield f"{field}: {error}"
        for name, value in params.headers.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS:
                yield f"headers: {name!r} is no header that may be set"
            elif _CONTROL.search(value):
                yield f"headers: the value of {name} holds a control character"
        if params.bearer_token_file is not None and is_template(params.bearer_token_file):
            yield "bearer_token_file: a label may not choose the file; write it out"

    def run(self, params: HttpParams, context: Context) -> dict[str, Any]:
        return _call(params, params, context, params.expect_status)

    def undoable(self, params: HttpParams) -> bool:
        return params.undo is not None

    def rollback(
        self,
        params: HttpParams,
        context: Context,
        result: Mapping[str, Any] | None,  # noqa: ARG002  it is sent in either case
    ) -> dict[str, Any]:
        if params.undo is None:
            raise ActionError("there is no `undo`")
        return _call(params.undo, params, context)


def _call(
    request: HttpParams | Undo,
    params: HttpParams,
    context: Context,
    expect_status: tuple[int, ...] = (),
) -> dict[str, Any]:
    method, url = request.method, request.url
    refuse_unless_allowed(url, context.inventory.allowed_urls)
    headers = dict(params.headers)
    if params.bearer_token_file is not None:
        try:
            token = Path(params.bearer_token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ActionError(f"bearer_token_file: {error}") from None
        headers["Authorization"] = f"Bearer {token}"
    answer = exchange(method, url, timeout=context.timeout, json=request.json, headers=headers)
    if not (answer.status in expect_status if expect_status else 200 <= answer.status < 300):
        expected = " or ".join(map(str, expect_status)) or "2xx"
        hint = "; redirects are not followed" if 300 <= answer.status < 400 else ""
        raise ActionError(
            f"{method} {url} answered {answer.words}, not {expected}{hint}", output=answer.body
        )
    return {"status": answer.status, "seconds": answer.seconds, "body": answer.body}


# ── which URL? ──


def refuse_unless_allowed(url: str, allowed: Iterable[str]) -> None:
    """Raise ActionError unless *url* is below one of the *allowed* prefixes."""
    try:
        parts = _split(url)
    except ValueError as error:
        raise ActionError(f"{url[:200]!r} is refused: {error}") from None
    listed = tuple(allowed)
    if not any(_is_below(parts, prefix) for prefix in listed):
        known = ", ".join(listed[:20]) or "nothing"
        raise ActionError(f"{url[:200]!r} is refused: `http.allow` in promheal.yml has {known}")


def _is_below(parts: SplitResult, prefix: str) -> bool:
    try:
        base = _split(prefix)
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


def _split(url: str) -> SplitResult:
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


def _url_problem(url: str) -> str | None:
    """Return what is wrong with an unrendered URL, whatever its labels will be, or None."""
    if not _LITERAL_HOST.fullmatch(url):
        return (
            "a label may not choose scheme, host or port; write them out, as in "
            "http://10.0.0.1:8080/{{ labels.service }}"
        )
    if problems_in(url):
        return None  # told for every parameter alike
    try:
        _split(sample(url))
    except ValueError as error:
        return str(error)
    return None


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


def exchange(
    method: str,
    url: str,
    *,
    timeout: float,
    json: dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request and return the answer, whatever its status; *timeout* is for all of it.

    The standard library's client sends just what was checked here: it follows nothing, decodes
    nothing, and asks neither the environment nor .netrc. Raises ActionError without an answer.
    """
    try:
        parts = _split(url)
    except ValueError as error:
        raise ActionError(f"{url[:200]!r} is refused: {error}") from None
    sent = {"User-Agent": "promheal", "Connection": "close"}
    if json is not None:
        sent["Content-Type"] = "application/json"
    sent.update(headers or {})
    for name, value in sent.items():
        if _CONTROL.search(value):
            raise ActionError(f"the value of header {name} holds a control character")
    began = time.monotonic()
    overdue = threading.Event()
    try:
        with connected(parts, began + timeout, overdue) as connection:
            connection.request(
                method,
                f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}",
                body=None if json is None else msgspec.json.encode(json),
                headers={name: value.encode() for name, value in sent.items()},
            )
            response = connection.getresponse()
            body = response.read(_MAX_BODY)
        if overdue.is_set():
            raise TimeoutError
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = overdue.is_set() or isinstance(error, TimeoutError)
        problem = f"not within {timeout:g} s" if late else str(error) or type(error).__name__
        raise ActionError(f"{method} {url} got no answer: {problem}") from None
    return Answer(
        status=response.status,
        seconds=round(time.monotonic() - began, 3),
        body=body.decode("utf-8", "replace").replace("\0", "\ufffd")[:_MAX_SHOWN],
        location=response.getheader("Location", ""),
    )
