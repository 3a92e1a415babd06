"""The Flask application: webhook, API, pages and probes, each a thin layer on the service."""

from __future__ import annotations

import logging
from typing import Final

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from receiver.app import Promheal
from receiver.errors import JournalError, RefusedError
from receiver.healing.known import UNKNOWN
from receiver.redaction import redact, redact_json
from receiver.web import api, pages, probes, steering, unknown_paths, webhook
from receiver.web.answers import error

log: Final = logging.getLogger("promheal.web")

_CODES: Final = {413: "too_large"}
"""Where the contract's code differs from werkzeug's."""
_METRICS: Final = "probes.metrics"


def create_app(service: Promheal, receiving: webhook.Webhook | None = None) -> Flask:
    """Return the WSGI application of a service. Errors are `{"error": {"code", "message"}}`."""
    receiving = receiving or webhook.Webhook(service)
    app = Flask("receiver.web", static_folder="static", template_folder="templates")
    app.url_map.merge_slashes = False  # the name of a breaker may contain two
    app.url_map.converters["task"] = steering.TaskConverter
    app.register_blueprint(webhook.blueprint(receiving))
    app.register_blueprint(api.blueprint(service))
    app.register_blueprint(steering.blueprint(service))
    app.register_blueprint(pages.blueprint(service))
    return _with_basics(app, service)


def create_worker_app(service: Promheal) -> Flask:
    """Return the application of a process that only executes steps: its probes and metrics."""
    return _with_basics(Flask("receiver.web", static_folder=None), service)


def _with_basics(app: Flask, service: Promheal) -> Flask:
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider's
    app.register_blueprint(probes.blueprint(service))
    app.register_error_handler(RefusedError, _refused)
    app.register_error_handler(JournalError, _cannot_store)
    app.register_error_handler(HTTPException, _http_error)
    unknown_paths.register(app)
    app.register_error_handler(Exception, _unexpected)
    app.after_request(_headers)
    app.after_request(_without_secrets)
    return app


def _http_error(problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    code = _CODES.get(problem.code or 500) or (problem.name or "error").lower().replace(" ", "_")
    response = error(code, problem.description or code, problem.code or 500)
    for name, value in problem.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _refused(problem: RefusedError) -> Response:
    code = {400: "bad_request", 404: "not_found"}.get(problem.status, "conflict")
    said = str(problem)
    mark = "" if said.endswith("?") else ";"
    if problem.code == UNKNOWN:
        said += f"{mark} to pause it all the same, send evenIfUnknown: true"
    if problem.among:
        said += f"{mark} GET /api/{problem.among} lists them"
    return error(problem.code or code, said, problem.status)


def _cannot_store(problem: JournalError) -> Response:
    return error("cannot_store", f"nothing was changed: {problem}", 503)


def _unexpected(problem: Exception) -> Response:
    log.error("a request failed", exc_info=problem)
    return error("internal", "promheal made a mistake; its log says more", 500)


def _without_secrets(response: Response) -> Response:
    if response.direct_passthrough or response.is_streamed or request.endpoint == _METRICS:
        return response  # a static file, or redacted where it is written
    text = response.get_data().decode("utf-8", "surrogateescape")
    clean = redact_json(text) if response.is_json else redact(text)
    if clean != text:
        response.set_data(clean.encode("utf-8", "surrogateescape"))
    return response


def _headers(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
    return response
