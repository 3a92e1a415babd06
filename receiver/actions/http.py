"""`http`: call a URL of the allow-list. Labels go into its path, query and body, never its host.

What is refused, and why (OWASP API7:2023, server side request forgery):

- a URL that is not below one of `http.allow`: scheme, host and port as they stand there, and the
  path on a segment's boundary;
- a template in the scheme, host or port;
- what receiver/clients/url.py refuses of any URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from receiver.actions import Action, Context
from receiver.clients.http_exchange import exchange
from receiver.clients.url import refuse_unless_allowed, split_url
from receiver.errors import ActionError
from receiver.policy.http_config import (
    Authorization,
    BasicAuth,
    HTTPConfig,
    bearer,
)
from receiver.policy.texts import FilePath
from receiver.redaction import learn_url
from receiver.services import Inventory
from receiver.template import ProseText, UrlText, is_template, problems_in, sample

_LITERAL_HOST: Final = re.compile(r"https?://[^/?#{]+(?:[/?].*)?", re.IGNORECASE | re.DOTALL)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
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
    """Of the request that takes it back, with the same headers and
    `<http_config>`."""
    method: Method = Method.POST
    """Its method."""
    json: dict[str, Any] | None = None
    """Its body."""


class HttpParams(HTTPConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: UrlText
    """Below one of `http.allow` in `promheal.yml`. Scheme, host and port take no template; values
    elsewhere are percent-encoded."""
    method: Method = Method.POST
    """The request's method."""
    json: dict[str, Any] | None = None
    """The body; texts in it may be templates."""
    headers: dict[str, ProseText] = msgspec.field(default_factory=dict)
    """Not `Connection`, `Content-Length`, `Host`, `Transfer-Encoding`. They are kept in the
    journal: no secrets."""
    bearer_token_file: Annotated[
        FilePath | None, msgspec.Meta(extra={"instead": "authorization: {credentials_file: …}"})
    ] = None
    """Deprecated, for `authorization.credentials_file`."""
    expect_status: tuple[int, ...] = ()
    """The answers that mean success; any 2xx when empty."""
    idempotent: bool | None = None
    """Whether it may be sent again when promheal died meanwhile; by its method when left out."""
    undo: Undo | None = None

    def __post_init__(self) -> None:
        self.refuse_contradictions()
        if self.login is not None and self.bearer_token_file is not None and super().login:
            raise ValueError(
                "at most one of basic_auth, authorization & bearer_token_file must be configured; "
                "remove bearer_token_file"
            )

    @property
    def login(self) -> BasicAuth | Authorization | None:
        return super().login or bearer(self.bearer_token_file)


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
        yield from _http_config_problems(params)

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
    learn_url(url)
    allowed = context.inventory.allowed_urls
    answer = exchange(
        method,
        url,
        timeout=context.timeout,
        json=request.json,
        headers=_headers(params),
        config=msgspec.structs.replace(params, headers={}),
        allowed=lambda found: refuse_unless_allowed(found, allowed),
    )
    if not (answer.status in expect_status if expect_status else 200 <= answer.status < 300):
        expected = " or ".join(map(str, expect_status)) or "2xx"
        hint = "; redirects are not followed" if 300 <= answer.status < 400 else ""
        raise ActionError(
            f"{method} {url} answered {answer.words}, not {expected}{hint}", output=answer.body
        )
    return {"status": answer.status, "seconds": answer.seconds, "body": answer.body}


def _headers(params: HttpParams) -> dict[str, str]:
    """Return the headers of the step but for one that its `http_config` sets."""
    names = set() if params.login is None else {"authorization"}
    return {name: value for name, value in params.headers.items() if name.lower() not in names}


def _http_config_problems(params: HttpParams) -> Iterator[str]:
    fields = (*HTTPConfig.__struct_fields__, "bearer_token_file")
    for field in fields:
        value = getattr(params, field)
        if field != "headers" and is_template(msgspec.json.encode(value).decode()):
            what = "the file" if field == "bearer_token_file" else "it"
            yield f"{field}: a label may not choose {what}; write it out"
    if any(params.secrets):
        yield (
            "parameters are kept in the journal, so no secret may stand in them; write "
            "`password_file`, `credentials_file` or `files`"
        )


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
        split_url(sample(url))
    except ValueError as error:
        return str(error)
    return None
