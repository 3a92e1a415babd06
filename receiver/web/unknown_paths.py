"""Answers a request for an unknown path, or with a wrong method: says where it should have gone.

Most are notifications to the wrong path: Alertmanager logs the status, and retries for ever.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Final, NamedTuple

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from receiver.web.access.denied_requests import LONGEST_PATH
from receiver.web.access.login_throttle import network
from receiver.web.answers import error
from receiver.web.log_throttle import LogThrottle
from receiver.yaml.diagnostics import nearest

log: Final = logging.getLogger("promheal.web")

WEBHOOK: Final = "/webhook"
CONTRACT: Final = "/openapi.yaml"

_LONGEST: Final = 100
"""Characters of a path that is compared with others, in quadratic time."""
_VARIABLE: Final = re.compile(r"<[^>]*>")
_ALERTMANAGERS: Final = re.compile(r".*/api/v[12]/alerts/?")
_OF_THE_PAGE: Final = ("/static/", "/ui/")
_READS: Final = frozenset({"GET", "HEAD"})
_UNASKED: Final = frozenset({"HEAD", "OPTIONS"})


class Served(NamedTuple):
    """A path that is served, such as `/api/runs/<int:number>`."""

    path: str
    methods: frozenset[str]


class UnknownPaths:
    """Answers 404 and 405 for an application, and logs them, throttled."""

    def __init__(self, app: Flask, clock: Callable[[], float] = monotonic) -> None:
        self._app = app
        self._throttle = LogThrottle(clock)

    def answer(self, problem: HTTPException) -> Response:
        served = [
            Served(rule.rule, frozenset(rule.methods or ()) - _UNASKED)
            for rule in self._app.url_map.iter_rules()
        ]
        method, path = request.method[:20], request.path[:LONGEST_PATH]
        root = request.script_root
        if isinstance(problem, MethodNotAllowed):
            allowed = sorted(problem.valid_methods or ())
            may = _either(set(allowed) - _UNASKED)
            said = f"{method} {root}{path}: this path takes {may} only."
            response = error("method_not_allowed", f"{said} {_way(served, root)}", 405)
            response.headers["Allow"] = ", ".join(allowed)
        else:
            hint = _hint(method, path, served, root)
            said = f"{method} {root}{path}: there is no such path{hint}"
            response = error("no_such_path", f"{said} {_way(served, root)}", 404)
        address = network(request.remote_addr or "")
        times = self._throttle.due(address)
        if times:
            log.warning(
                "a request went astray (logged once a minute for each address): %s",
                said,
                extra={"address": address, "status": response.status_code, "times": times},
            )
        return response


def register(app: Flask) -> None:
    unknown = UnknownPaths(app)
    for kind in (NotFound, MethodNotAllowed):
        app.register_error_handler(kind, unknown.answer)


def _either(methods: Iterable[str]) -> str:
    return " or ".join(sorted(methods))


def _way(served: Sequence[Served], root: str) -> str:
    """Return where notifications go, and where all paths are listed."""
    if all(one.path != WEBHOOK for one in served):
        return (
            "This promheal only executes steps: Alertmanager's notifications go to POST /webhook "
            "of one that receives them."
        )
    return (
        f"Alertmanager's notifications go to POST {root}{WEBHOOK}; "
        f"GET {root}{CONTRACT} lists all paths."
    )


def _hint(method: str, path: str, served: Sequence[Served], root: str) -> str:
    """Return what was probably meant, and the end of the sentence; *root* is before each path."""
    if method == "POST" and _ALERTMANAGERS.fullmatch(path):
        return "; it is one of Alertmanager: have Prometheus tell that, and that tell promheal."
    if len(path) > _LONGEST:
        return "."
    # A POST is not shown what can only be read; a GET may have forgotten to post.
    there = {
        each: methods
        for each, methods in _written(path, served)
        if each != path and (method in _READS or method in methods)
    }
    if near := nearest(path, there):
        how = method if method in there[near] else _either(there[near])
        return f"; did you mean {how} {root}{near}?"
    return "."


def _written(path: str, served: Sequence[Served]) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the served paths, their variables filled in from *path*."""
    parts = path.split("/")
    for one in served:
        if one.path.startswith(_OF_THE_PAGE) or not one.methods:
            continue
        asked = one.path.split("/")
        if any(_VARIABLE.search(part) for part in asked[len(parts) :]):
            continue
        filled = [parts[at] if _VARIABLE.search(part) else part for at, part in enumerate(asked)]
        yield "/".join(filled), one.methods
