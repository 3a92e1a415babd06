"""Everything below a path, as behind a proxy that serves more: --web.route-prefix.

As in Prometheus: the prefix is where requests are answered, by default the path of
--web.external-url; links lead to that path, and to the prefix where no external URL is given. A
proxy that takes the path away therefore needs an external URL, and the prefix `/`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from receiver.errors import ConfigError
from receiver.web.log_throttle import LogThrottle

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log: Final = logging.getLogger("promheal.web")

# Nothing that a browser, a proxy or a shell reads in another way, and no `.` or `..`.
_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[\w.~-]+)*", re.ASCII)
_LONGEST: Final = 200
"""Characters of a path that is shown."""


class RoutePrefix(msgspec.Struct, frozen=True):
    """Paths without a slash at their end; empty for the root."""

    routes: str = ""
    """What the paths of requests begin with."""
    links: str = ""
    """What the paths of links begin with."""

    def below(self, path: str) -> str | None:
        """Return *path* without the prefix, from its slash on; None if it is not below it."""
        if self.routes and not path.startswith(f"{self.routes}/"):
            return None
        return path[len(self.routes) :]


def route_prefix(given: str | None, external_url: str) -> RoutePrefix:
    """Read --web.route-prefix and --web.external-url. Raises ConfigError."""
    links = _path("--web.external-url", urlsplit(external_url).path)
    if given is None:
        return RoutePrefix(links, links)
    routes = _path("--web.route-prefix", given)
    return RoutePrefix(routes, links if external_url else routes)


class PrefixMiddleware:
    """Passes on what is below the prefix, without it; SCRIPT_NAME says what links begin with.

    The prefix itself, and the root above it, lead to the page. *headers* returns the operator's.
    """

    def __init__(
        self,
        app: WSGIApplication,
        prefix: RoutePrefix,
        headers: Callable[[], Sequence[tuple[str, str]]],
    ) -> None:
        self._app = app
        self._prefix = prefix
        self._headers = headers
        self._throttle = LogThrottle(monotonic)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        prefix, path = self._prefix, environ.get("PATH_INFO", "")
        below = prefix.below(path)
        if below is not None:
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = prefix.links, below
            return self._app(environ, start_response)
        method = environ["REQUEST_METHOD"]
        if path in {"/", prefix.routes} and method in {"GET", "HEAD"}:
            return self._answer(start_response, "302 Found", b"", ("Location", f"{prefix.links}/"))
        said = (
            f"{method[:20]} {path[:_LONGEST]}: this promheal is below {prefix.routes}/, as "
            f"--web.route-prefix says; did you mean {prefix.routes}{path[:_LONGEST]}?"
        )
        self._warn(environ, said)
        body = msgspec.json.encode({"error": {"code": "no_such_path", "message": said}}) + b"\n"
        kind = ("Content-Type", "application/json")
        return self._answer(
            start_response, "404 Not Found", b"" if method == "HEAD" else body, kind
        )

    def _answer(
        self, start_response: StartResponse, status: str, body: bytes, *more: tuple[str, str]
    ) -> Iterable[bytes]:
        headers = [
            *more,
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
            *self._headers(),
        ]
        start_response(status, headers)
        return [body]

    def _warn(self, environ: dict[str, Any], said: str) -> None:
        address = environ.get("REMOTE_ADDR", "")
        if times := self._throttle.due(address):
            log.warning(
                "a request went astray (logged once a minute for each address): %s",
                said,
                extra={"address": address, "status": 404, "times": times},
            )


def _path(flag: str, text: str) -> str:
    path = text.rstrip("/")
    if path and not path.startswith("/"):
        path = f"/{path}"
    if not _PATH.fullmatch(path):
        raise ConfigError(
            f"{flag}: the path {text!r} cannot be served; write it of letters, digits and "
            "`-`, `_`, `.`, `~`, as /promheal"
        )
    return path
