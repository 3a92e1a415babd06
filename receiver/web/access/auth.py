"""The auth middleware: only granted requests reach the application.

It finds the user in `environ["promheal.user"]` and `environ["promheal.role"]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from receiver.web.access.control import AccessControl
from receiver.web.access.verdict import AuthRequest, Denied
from receiver.web.server.answering import OfferedRequest, Reply

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

USER: Final = "promheal.user"
ROLE: Final = "promheal.role"

Headers = Sequence[tuple[str, str]]

_BOTH_HOLD: Final = "content-security-policy"
"""A browser applies every one of these headers, so the operator's is added to ours."""
_ALWAYS: Final = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))


class AuthMiddleware:
    """Passes on the requests that *access* grants, and answers the others."""

    def __init__(self, app: WSGIApplication, access: AccessControl) -> None:
        self._app = app
        self._access = access

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        verdict = self._access.judge(_request(environ))
        extra = self._access.headers
        if isinstance(verdict, Denied):
            body = verdict.body
            headers = [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                *verdict.headers,
                *_ALWAYS,
            ]
            start_response(
                f"{verdict.status} {HTTPStatus(verdict.status).phrase}", merged(headers, extra)
            )
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        environ[USER], environ[ROLE] = verdict.name, verdict.role
        if not extra:
            return self._app(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, merged(headers, extra), exc_info)

        return self._app(environ, start)

    def admit(self, offered: OfferedRequest, reply: Reply) -> str | None:
        """Return the user of a request that came past WSGI; None if it was denied and answered."""
        verdict = self._access.judge(
            AuthRequest(
                method=offered.method,
                path=offered.path,
                authorization=offered.authorization,
                address=offered.address,
                host=offered.host,
                origin=offered.origin,
                site=offered.site,
            )
        )
        if isinstance(verdict, Denied):
            reply(verdict.status, verdict.body, [*verdict.headers, *self.added_headers()])
            return None
        return verdict.name

    def added_headers(self) -> Headers:
        """Return the operator's headers but those that `reply` sends anyway."""
        return added(self._access.headers)


def merged(headers: Headers, extra: Headers) -> list[tuple[str, str]]:
    """Return *headers* with the operator's, which replace those of the same name."""
    replaced = {name.lower() for name, _ in extra} - {_BOTH_HOLD}
    return [*((name, text) for name, text in headers if name.lower() not in replaced), *extra]


def added(extra: Headers) -> list[tuple[str, str]]:
    """Return the operator's headers but those that every answer has anyway."""
    always = {name for name, _ in _ALWAYS}
    return [header for header in extra if header[0] not in always]


def _request(environ: WSGIEnvironment) -> AuthRequest:
    peer = getattr(environ.get("gunicorn.socket"), "getpeercert", None)
    return AuthRequest(
        method=environ["REQUEST_METHOD"],
        path=environ.get("PATH_INFO", ""),
        authorization=environ.get("HTTP_AUTHORIZATION", ""),
        address=environ.get("REMOTE_ADDR", ""),
        certificate=(peer() if peer is not None else None) or None,
        host=environ.get("HTTP_HOST", ""),
        origin=environ.get("HTTP_ORIGIN", ""),
        site=environ.get("HTTP_SEC_FETCH_SITE", ""),
    )
