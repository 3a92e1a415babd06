"""Whoever asks for what is not served is told where to go, and the log says that somebody did."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.exceptions import default_exceptions

from receiver.app import Promheal
from receiver.web.flask_app import create_app, create_worker_app
from receiver.web.log_throttle import LINES

WAY = "Alertmanager's notifications go to POST /webhook; GET /openapi.yaml lists all paths."


@pytest.fixture
def client(service: Promheal) -> FlaskClient:
    return create_app(service).test_client()


def said(client: FlaskClient, method: str, path: str, status: int, **request: Any) -> str:
    answer = client.open(path, method=method, **request)
    assert answer.status_code == status
    found: Any = answer.json
    assert found["error"]["code"] == {404: "no_such_path", 405: "method_not_allowed"}[status]
    message: str = found["error"]["message"]
    assert "URL" not in message, "those are Werkzeug's words"
    return message


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/webhook/", "POST /webhook"),
        ("POST", "/webhok", "POST /webhook"),
        ("POST", "/Webhook", "POST /webhook"),
        ("POST", "/promheal/webhook", "POST /webhook"),
        ("GET", "/webhok", "POST /webhook"),
        ("GET", "/alerts", "GET /api/alerts"),
        ("GET", "/api/run/1", "GET /api/runs/1"),
        ("GET", "/api/runs/1/aprove", "GET /api/runs/1"),
        ("GET", "/healthz", "GET /-/healthy"),
        ("GET", "/metrics/", "GET /metrics"),
        ("GET", "/reload", "POST or PUT /-/reload"),
        ("POST", "/api/heal/pause", "POST /api/system/heal/pause"),
    ],
)
def test_a_path_that_there_is_not_is_answered_with_the_one_that_was_meant(
    client: FlaskClient, method: str, path: str, meant: str
) -> None:
    assert said(client, method, path, 404) == (
        f"{method} {path}: there is no such path; did you mean {meant}? {WAY}"
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/alerts"), ("GET", "/nothing"), ("POST", "/wp-login.php"), ("GET", "/x" * 5_000)],
)
def test_where_nothing_is_near_the_way_is_said_all_the_same(
    client: FlaskClient, method: str, path: str
) -> None:
    message = said(client, method, path, 404)

    assert message.endswith(f": there is no such path. {WAY}")
    assert len(message) < 400


@pytest.mark.parametrize(
    ("method", "path", "takes"),
    [
        ("GET", "/webhook", "POST"),
        ("PUT", "/webhook", "POST"),
        ("POST", "/", "GET"),
        ("GET", "/-/reload", "POST or PUT"),
        ("DELETE", "/metrics", "GET"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_answered_with_those_that_it_takes(
    client: FlaskClient, method: str, path: str, takes: str
) -> None:
    assert (
        said(client, method, path, 405) == f"{method} {path}: this path takes {takes} only. {WAY}"
    )
    allowed = client.open(path, method=method).headers["Allow"].split(", ")
    assert set(takes.split(" or ")) <= set(allowed)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_prometheus_that_takes_promheal_for_an_alertmanager_is_told(
    client: FlaskClient, version: str
) -> None:
    assert "have Prometheus tell that" in said(client, "POST", f"/api/{version}/alerts", 404)


def test_who_only_executes_steps_says_so(service: Promheal) -> None:
    client = create_worker_app(service).test_client()

    message = said(client, "POST", "/webhook", 404)

    assert "This promheal only executes steps" in message
    assert "POST /webhook of one that receives them" in message


def test_it_is_logged_once_a_minute_for_each_address_and_never_more_than_some(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="promheal.web"):
        for _ in range(100):
            said(client, "POST", "/alerts", 404)
        for number in range(300):
            address = {"REMOTE_ADDR": f"192.0.2.{number % 250}"}
            said(client, "GET", f"/x{number}", 404, environ_overrides=address)

    first = caplog.records[0]
    assert first.getMessage() == (
        "a request went astray (logged once a minute for each address): "
        "POST /alerts: there is no such path."
    )
    assert (first.address, first.status) == ("127.0.0.1", 404)  # type: ignore[attr-defined]
    assert len(caplog.records) == LINES


def test_no_refusal_is_in_the_words_of_the_framework(service: Promheal) -> None:
    """Whatever is asked with whatever method: its texts know neither the path nor a remedy."""
    app = create_app(service)
    client = app.test_client()
    theirs = {kind.description for kind in default_exceptions.values() if kind.description}
    refused = 0
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<[^>]*>", "7", rule.rule)
        for method in ("GET", "POST", "PUT", "DELETE"):
            answer: Any = client.open(path, method=method, data=b"{")
            if answer.status_code >= 400:
                refused += 1
                said = answer.json["error"]["message"] if answer.is_json else answer.text
                assert not any(text in said for text in theirs), (method, path, said)
    assert refused > 50
