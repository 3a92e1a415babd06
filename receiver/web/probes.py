"""/-/healthy, /-/ready, /-/reload and /metrics, as Prometheus' own servers have them."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from receiver.app import Promheal
from receiver.errors import ConfigError
from receiver.reporting.scrapers import HEADER, Scrapers
from receiver.web.answers import error
from receiver.web.steering import user


def blueprint(service: Promheal) -> Blueprint:
    routes = Blueprint("probes", __name__)
    scrapers = Scrapers()

    @routes.get("/-/healthy")
    def healthy() -> Response:
        return Response("promheal is healthy.\n", content_type="text/plain; charset=utf-8")

    @routes.get("/-/ready")
    def ready() -> Response:
        reason = service.ready()
        text = f"promheal is not ready: {reason}\n" if reason else "promheal is ready.\n"
        return Response(
            text, status=503 if reason else 200, content_type="text/plain; charset=utf-8"
        )

    @routes.route("/-/reload", methods=["POST", "PUT"])
    def reload() -> Response:
        try:
            warnings = service.reload(by=user())
        except ConfigError as problem:
            return error("invalid_configuration", str(problem), 400)
        return jsonify({"reloaded": True, "warnings": list(warnings)})

    @routes.get("/metrics")
    def metrics() -> Response:
        headers, new = request.headers, 0.0
        if HEADER in headers:
            new = scrapers.scrape(request.remote_addr or "", headers.get("User-Agent", ""))
        body, content_type = service.metrics.exposition(headers.get("Accept", ""), new=new)
        return Response(body, content_type=content_type)

    return routes
