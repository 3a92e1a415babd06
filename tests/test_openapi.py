"""Does the server keep its contract? `receiver/web/openapi.yaml`, against the real application."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jsonschema
import msgspec
import pytest
import schemathesis
import yaml
from flask import Flask
from gunicorn.config import Config
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from referencing import Registry, Resource
from schemathesis import Response
from schemathesis.specs.openapi.checks import negative_data_rejection, unsupported_method
from werkzeug.test import Client, TestResponse

from receiver import snapshots
from receiver.app import Promheal
from receiver.errors import JournalError
from receiver.journal import Transaction
from receiver.policy.breaker import BreakerEvent, Happening, Thresholds
from receiver.policy.dormancy import AWAKE, lulled
from receiver.policy.duration import parse_duration
from receiver.policy.line import LINE
from receiver.policy.run import Observation
from receiver.policy.target import Key
from receiver.web.access.auth import AuthMiddleware
from receiver.web.access.control import AccessControl
from receiver.web.access.verdict import AuthRequest, Granted
from receiver.web.access.web_config import Role, Token, WebConfig
from receiver.web.flask_app import create_app
from receiver.web.server.framing import Framing, Refusal
from receiver.web.server.parsing import STATUS, parse
from receiver.web.steering import MAX_PAUSE
from tests.figures import Record, scaled
from tests.requests_in_bytes import post

CONTRACT: Final[dict[str, Any]] = yaml.safe_load(
    Path("receiver/web/openapi.yaml").read_text(encoding="utf-8")
)
METHODS: Final = frozenset({"get", "put", "post", "delete", "patch"})
OF_THE_PAGE: Final = ("/ui/", "/static/", "/runs", "/decisions/", "/strategies/")
"""The page's own forms and style sheet are no part of the contract."""
EXAMPLES: Final = scaled(12, 1_000)
"""Random requests to each operation, besides those that schemathesis derives from its schema."""

OPERATIONS: Final = [
    (path, method, operation)
    for path, item in CONTRACT["paths"].items()
    for method, operation in item.items()
    if method in METHODS
]
STRATEGIES: Final = """\
strategies:
  latency:
    match: ['alertname="HighLatency"']
    target: [service]
    actions: [{action: log, message: "slow: {{ labels.service }}"}]
  careful:
    match: ['alertname="HighMemory"']
    target: [service]
    mode: approve
    actions: [{action: log, message: "leaking: {{ labels.service }}"}]
"""
STRANGE: Final = (
    'target:instance="http://a//b/../c"',
    'target:service="a/reset"',
    'target:service="100 %2F ä?#+&"',
)
"""Names of breakers: a target's comes from labels, which may be anything."""

JSON: Final = "application/json"
UNSUPPORTED: Final = "unsupported_media_type"
PAUSE: Final = "/api/system/heal/pause"
RESUME: Final = "/api/system/heal/resume"


# -- the document


def nodes(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Everything in *node*, with where it is."""
    yield path, node
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from nodes(value, (*path, str(key)))


def pointer(path: tuple[str, ...]) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def resolved(node: Any) -> Any:
    """Follow a reference within the contract."""
    while isinstance(node, dict) and "$ref" in node:
        found: Any = CONTRACT
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def validator(path: tuple[str, ...]) -> jsonschema.Draft202012Validator:
    """Of the schema at *path* of the contract."""
    registry: Registry[Any] = Registry().with_resource(
        "urn:contract",
        Resource.from_contents(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **CONTRACT}
        ),
    )
    return jsonschema.Draft202012Validator(
        {"$ref": f"urn:contract#{pointer(path)}"}, registry=registry
    )


def test_the_contract_is_openapi() -> None:
    schemathesis.openapi.from_dict(CONTRACT).validate()


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    for path, node in nodes(CONTRACT):
        if isinstance(node, dict) and "$ref" in node:
            assert resolved(node) is not None
        if path[-1:] == ("schema",) or path[:-1] == ("components", "schemas"):
            jsonschema.Draft202012Validator.check_schema(node)


def test_every_part_of_the_contract_is_used() -> None:
    used = {
        node["$ref"] for _, node in nodes(CONTRACT) if isinstance(node, dict) and "$ref" in node
    }

    for kind, parts in CONTRACT["components"].items():
        if kind != "securitySchemes":
            for name in parts:
                assert any(ref.startswith(f"#/components/{kind}/{name}") for ref in used), name


def test_every_example_keeps_to_its_schema() -> None:
    found = 0
    for path, node in nodes(CONTRACT):
        if isinstance(node, dict) and "schema" in node and "example" in node:
            found += 1
            problems = list(validator((*path, "schema")).iter_errors(node["example"]))
            assert problems == [], pointer(path)

    assert found > len(OPERATIONS)


def test_what_json_an_answer_can_hold_is_said_to_the_last_key() -> None:
    """But for maps of names, and for what an action returns."""
    for path, node in nodes(CONTRACT["components"]["schemas"], ("components", "schemas")):
        if isinstance(node, dict) and "properties" in node and "Notification" not in path:
            assert node["additionalProperties"] is False, pointer(path)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_an_operation_says_what_it_needs_and_how_it_refuses(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    answers = set(operation["responses"])
    changes = method != "get"

    assert operation["summary"].endswith((".", "?"))
    assert operation["tags"][0] in {tag["name"] for tag in CONTRACT["tags"]}
    assert "405" in answers
    assert {"401", "403"} & answers == (set() if operation["x-role"] == "none" else {"401", "403"})
    if "requestBody" in operation:
        assert {"400", "413", "415", "503"} <= answers
    if changes and path not in {"/webhook", "/-/reload"}:
        assert "400" in answers
    for status, answer in operation["responses"].items():
        json = resolved(answer)["content"].get(JSON)
        if json is not None:
            assert "example" in json, status
        if status >= "400" and json is not None:
            assert json["schema"] == {"$ref": "#/components/schemas/Error"}


def test_the_names_of_operations_are_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]

    assert len(set(names)) == len(names)


def test_any_reader_of_openapi_knows_every_format() -> None:
    """Those of the format registry are few; all else is a pattern."""
    formats = {node["format"] for _, node in nodes(CONTRACT) if "format" in _keys(node)}
    assert formats <= {"date-time"}
    schemas = CONTRACT["components"]["schemas"]
    assert schemas["OptionalReason"]["pattern"] == LINE.pattern
    assert LINE.pattern[1:] in schemas["Reason"]["pattern"]
    for duration in schemas["Duration"]["examples"]:
        assert re.match(schemas["Duration"]["pattern"], duration)


def _keys(node: Any) -> frozenset[str]:
    return frozenset(node) if isinstance(node, dict) else frozenset()


@given(st.from_regex(CONTRACT["components"]["schemas"]["Duration"]["pattern"], fullmatch=True))
def test_every_duration_of_the_contract_is_read(duration: str) -> None:
    assert 0 < parse_duration(duration) <= MAX_PAUSE


# What the server answers to bytes that never become a request of the application.
UNFRAMED: Final = {
    400: b"GET / HTTP/3.0\r\n\r\n",
    413: post(b"", "Content-Length: 1001", length=False),
    414: b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n",
    417: b"GET / HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\n\r\n",
    431: b"GET / HTTP/1.1\r\nX: " + b"x" * 65_536,
    501: post(b"", "Transfer-Encoding: magic, chunked", length=False) + b"0\r\n\r\n",
}


@pytest.mark.parametrize(("status", "data"), UNFRAMED.items())
def test_what_the_server_answers_before_the_application_is_in_the_contract(
    status: int, data: bytes
) -> None:
    def read() -> None:
        progress = Framing(1000).advance(bytearray(data))
        parse(Config(), iter([data]), ("127.0.0.1", 1), number=1, progress=progress)

    with pytest.raises(Refusal) as refused:
        read()
    assert refused.value.status == status


def test_the_contract_has_every_status_of_the_server() -> None:
    statuses = {str(status) for status in (*UNFRAMED, *STATUS.values(), 400, 408, 503)}
    listed = re.findall(r"[0-9]{3}", "".join(_ROW.findall(CONTRACT["info"]["description"])))
    assert statuses <= set(listed)
    of_lines_and_headers = statuses - {"400", "413", "503"}
    for path, method, operation in OPERATIONS:
        assert of_lines_and_headers <= set(operation["responses"]), (method, path)


_ROW: Final = re.compile(r"^\| ([0-9, ]+) \|", re.MULTILINE)


# -- the routes and the roles


def served(app: Flask) -> set[tuple[str, str]]:
    """Every (path, method) that is routed, as the contract writes them."""
    found = set()
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(OF_THE_PAGE):
            continue
        parts = [
            choices.split(", ") if (choices := _CHOICE.sub(r"\1", part)) != part else [part]
            for part in rule.rule.split("/")
        ]
        for chosen in product(*parts):
            path = re.sub(r"<[^>]+>", "{}", "/".join(chosen))
            found |= {(path, m) for m in rule.methods or () if m.lower() in METHODS}
    return found


_CHOICE: Final = re.compile(r"<any\((.*)\):\w+>")


def test_what_is_routed_is_what_the_contract_has(service: Promheal) -> None:
    written = {(re.sub(r"{\w+}", "{}", path), m.upper()) for path, m, _ in OPERATIONS}

    assert served(create_app(service)) == written


def token(role: Role) -> tuple[str, Token]:
    secret = f"the secret of a {role}"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return secret, Token(name=str(role), sha256=digest, role=role)


TOKENS: Final = {role: token(role) for role in Role}
ACCESS: Final = WebConfig(tokens={one.sha256: one for _, one in TOKENS.values()})
OPERATOR: Final = {"Authorization": f"Bearer {TOKENS[Role.OPERATOR][0]}"}


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_the_role_that_the_contract_names_is_the_one_that_is_needed(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    access = AccessControl(lambda: ACCESS)

    def may(authorization: str) -> bool:
        asked = AuthRequest(
            method=method.upper(),
            path=re.sub(r"{\w+}", "1", path),
            authorization=authorization,
            address="192.0.2.7",
        )
        return isinstance(access.judge(asked), Granted)

    let_in = {role for role, (secret, _) in TOKENS.items() if may(f"Bearer {secret}")}

    enough = {
        "none": set(Role),
        "webhook": {Role.WEBHOOK, Role.OPERATOR},
        "viewer": {Role.VIEWER, Role.OPERATOR},
        "operator": {Role.OPERATOR},
    }
    assert let_in == enough[operation["x-role"]]
    assert may("") == (operation["x-role"] == "none")
    assert (operation.get("security") == []) == (operation["x-role"] == "none")


# -- the answers


def notification(*alerts: tuple[str, str]) -> dict[str, Any]:
    return {
        "version": "4",
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": name, "service": service},
                "startsAt": "2026-11-22T04:31:42Z",
            }
            for name, service in alerts
        ],
    }


def trip(transaction: Transaction, name: str, now: float, *, for_good: bool = False) -> None:
    thresholds = Thresholds(failures=1, permanent_after=1 if for_good else 3)
    failure = BreakerEvent.FAILURE
    happening = Happening(event=failure, at=now, started_at=now, run=2, thresholds=thresholds)
    transaction.happen(name, happening)


@pytest.fixture
def lived(config: Path, make_service: Callable[..., Promheal]) -> Promheal:
    """A service that has something of everything: run 1 waits for approval, run 2 has ended."""
    (config / "healing_strategies.yml").write_text(STRATEGIES)
    service = make_service()
    # Started, but for the engine: what is considered, and when, is said here.
    assert service.journal.acquire()
    service.background.start()
    service.acting.set()
    client = create_app(service).test_client()
    client.post("/webhook", json=notification(("HighMemory", "shop"), ("Other", "x")))
    service.reconciler.consider(Key("careful", 'service="shop"'))
    client.post("/webhook", json=notification(("HighLatency", "checkout")))
    service.reconciler.consider(Key("latency", 'service="checkout"'))

    def write(transaction: Transaction) -> None:
        now = service.clock()
        trip(transaction, "strategy:latency", now)
        for name in STRANGE:
            trip(transaction, name, now, for_good=True)
        transaction.put_dormancy(lulled(AWAKE, "nothing helped", now))

    service.journal.atomically(write)
    kept = snapshots.Snapshot(
        run=1, step=0, strategy="careful", target="x", taken_at=1.0, alert={"labels": {}}
    )
    snapshots.keep(service.folder, kept)
    service.control.pause(by="alice", reason="load test", scope='target:service="shop"')
    service.control.pause(by="alice", reason="a while", scope="strategy:latency", seconds=3_600)
    return service


def gate(service: Promheal) -> AuthMiddleware:
    return AuthMiddleware(create_app(service).wsgi_app, AccessControl(lambda: ACCESS))


def ask(service: Promheal, path: str, method: str, operation: Any, **changes: Any) -> TestResponse:
    """Send what the contract gives as an example."""
    for parameter in map(resolved, operation.get("parameters", ())):
        if parameter["in"] == "path":
            value = changes.pop("value", parameter["example"])
            path = path.replace(f"{{{parameter['name']}}}", quote(str(value), safe=""))
    if "requestBody" in operation:
        example = resolved(operation["requestBody"])["content"][JSON]["example"]
        changes = {"json": example, **changes}
    return Client(gate(service)).open(path, method=method.upper(), headers=OPERATOR, **changes)


def check(answer: TestResponse, path: str, method: str) -> None:
    """Hold an answer to what the contract has for its status."""
    where: tuple[str, ...] = ("paths", path, method, "responses", str(answer.status_code))
    documented = CONTRACT["paths"][path][method]["responses"][str(answer.status_code)]
    if "$ref" in documented:
        where = tuple(documented["$ref"].removeprefix("#/").split("/"))
    content = resolved(documented)["content"]
    assert answer.mimetype in content
    if answer.mimetype == JSON:
        validator((*where, "content", JSON, "schema")).validate(answer.json)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_the_examples_of_the_contract_work_as_they_stand(
    lived: Promheal, path: str, method: str, operation: dict[str, Any]
) -> None:
    answer = ask(lived, path, method, operation)

    assert str(answer.status_code) == min(operation["responses"])
    check(answer, path, method)


@pytest.mark.parametrize(("run", "state"), [(1, "pending"), (2, "finished")])
def test_a_run_can_be_read_in_full(lived: Promheal, run: int, state: str) -> None:
    path = "/api/runs/{run}"
    answer = ask(lived, path, "get", CONTRACT["paths"][path]["get"], value=run)

    check(answer, path, "get")
    full: Any = answer.json
    assert full["state"] == state
    parts = {name: len(full[name]) for name in ("decisions", "steps", "observations")}
    ended = int(state == "finished")
    assert parts == {"decisions": 1, "steps": ended, "observations": ended}


@pytest.mark.parametrize("name", STRANGE)
def test_a_breaker_of_any_name_can_be_reset(lived: Promheal, name: str) -> None:
    path = "/api/breakers/{name}/reset"

    answer = ask(lived, path, "post", CONTRACT["paths"][path]["post"], value=name)

    assert answer.status_code == 200
    breaker: Any = answer.json
    assert (breaker["name"], breaker["state"]) == (name, "CLOSED")


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_a_journal_that_fails_is_a_503_where_the_contract_says_so_and_matters_nowhere_else(
    lived: Promheal,
    path: str,
    method: str,
    operation: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> Any:
        raise JournalError("the disk is full")

    for name in ("atomically", "read", "submit"):
        monkeypatch.setattr(lived.journal, name, full)

    answer = ask(lived, path, method, operation)

    assert (answer.status_code == 503) == ("503" in operation["responses"])
    check(answer, path, method)


@pytest.mark.parametrize(
    ("path", "method", "operation"),
    [one for one in OPERATIONS if "tasks" in one[2]["tags"] and one[1] != "get"],
)
def test_tasks_are_steered_only_when_the_audit_says_so(
    lived: Promheal,
    path: str,
    method: str,
    operation: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> Any:
        raise JournalError("the disk is full")

    def steered() -> list[tuple[str, bool]]:
        return [(task.id, task.paused) for task in lived.background.tasks]

    if path.endswith("resume"):
        lived.background.pause_all()
    if path.endswith("cleanup"):
        lived.background.unregister("resync")
    before = steered()
    monkeypatch.setattr(lived.journal, "atomically", full)

    assert ask(lived, path, method, operation).status_code == 503
    assert steered() == before


@pytest.mark.parametrize(
    ("path", "method", "operation"),
    [one for one in OPERATIONS if "requestBody" in one[2]],
)
def test_a_body_beyond_all_measure_is_a_413(
    service: Promheal, path: str, method: str, operation: dict[str, Any]
) -> None:
    answer = ask(service, path, method, operation, json={"reason": "x" * (8 << 20)})

    assert answer.status_code == 413
    check(answer, path, method)


@pytest.mark.parametrize(
    ("method", "path", "changes", "status", "code"),
    [
        ("GET", "/api//runs", {}, 404, "no_such_path"),
        ("GET", "/api/runs/" + "9" * 5_000, {}, 404, "no_such_path"),
        ("GET", "/api/runs/1/approve", {}, 405, "method_not_allowed"),
        ("DELETE", "/api/tasks/pause", {}, 405, "method_not_allowed"),
        ("DELETE", "/api/tasks/resync?reason=%00", {}, 400, "bad_request"),
        ("POST", PAUSE, {"data": b"{}", "content_type": "text/plain"}, 415, UNSUPPORTED),
        ("POST", PAUSE, {"json": {}, "headers": {"Content-Encoding": "gzip"}}, 415, UNSUPPORTED),
        ("POST", PAUSE, {"data": b"[" * 60_000, "content_type": JSON}, 400, "bad_request"),
        (
            "POST",
            PAUSE,
            {"data": b'{"reason":"\\ud800"}', "content_type": JSON},
            400,
            "bad_request",
        ),
        ("POST", PAUSE, {"json": {"reason": "two\nlines"}}, 400, "bad_request"),
        ("POST", PAUSE, {"json": {"reason": "x", "for": "999999999y"}}, 400, "bad_request"),
        ("POST", PAUSE, {"json": {"reason": "x", "scope": "strategy:no"}}, 404, "unknown_scope"),
        ("POST", PAUSE, {"json": {"reason": "x", "scope": "every"}}, 400, "bad_request"),
        ("POST", RESUME, {"json": {"reason": "x", "scope": "every"}}, 400, "bad_request"),
        ("POST", RESUME, {"json": {"reason": "x", "scope": "target:y"}}, 409, "not_paused"),
        ("POST", "/api/runs/2/approve", {"json": {"reason": "x"}}, 409, "conflict"),
        ("POST", "/api/runs/2/cancel", {"json": {"reason": "x"}}, 409, "conflict"),
    ],
    ids=str,
)
def test_whatever_is_wrong_is_said_in_one_shape(
    lived: Promheal, method: str, path: str, changes: dict[str, Any], status: int, code: str
) -> None:
    headers = {**OPERATOR, **changes.get("headers", {})}

    answer = Client(gate(lived)).open(path, method=method, **{**changes, "headers": headers})

    assert answer.status_code == status
    validator(("components", "schemas", "Error")).validate(answer.json)
    said: Any = answer.json
    assert said["error"]["code"] == code


def test_a_body_without_a_length_is_no_larger_than_others(lived: Promheal) -> None:
    answer = Client(gate(lived)).post(
        PAUSE,
        input_stream=BytesIO(b'{"reason": "x"' + b" " * 100_000 + b"}"),
        content_type=JSON,
        headers={**OPERATOR, "Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )

    assert answer.status_code == 413
    check(answer, PAUSE, "post")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_json_does_not_have_is_null(lived: Promheal, value: float) -> None:
    seen = Observation(at=1.0, verdict="firing", value=value, detail="a division by zero")
    lived.journal.atomically(lambda t: t.put_observation(2, seen))
    path = "/api/runs/{run}"

    answer = ask(lived, path, "get", CONTRACT["paths"][path]["get"], value=2)

    assert msgspec.json.decode(answer.data)["observations"][-1]["value"] is None


@pytest.mark.parametrize(
    "accept", ["text/plain;version=x", "application/openmetrics-text;version=", "*/*;q=x", ";=,"]
)
def test_metrics_are_for_everybody_who_asks(service: Promheal, accept: str) -> None:
    answer = Client(gate(service)).get("/metrics", headers={**OPERATOR, "Accept": accept})

    assert answer.status_code == 200
    check(answer, "/metrics", "get")


class Stage:
    """The application of the test that runs: schemathesis wants one before there is any."""

    app: AuthMiddleware
    examples = 0
    varies = False
    """Whether what is asked has parameters or a body, and so many different requests."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)


STAGE: Final = Stage()


@pytest.fixture
def on_stage(lived: Promheal, record_property: Record) -> Iterator[None]:
    STAGE.app, STAGE.examples = gate(lived), 0
    yield
    record_property("examples" if STAGE.varies else "examples of all there are", STAGE.examples)


schema = schemathesis.openapi.from_dict(CONTRACT)
schema.app = STAGE


def asked(case: schemathesis.Case[Any], role: Role | None) -> Response:
    """Ask as somebody with a role, or as nobody, and hold the answer to the contract."""
    operation = case.operation
    STAGE.varies = bool(len(operation.path_parameters) + len(operation.query) + len(operation.body))
    if case.path == "/webhook" and isinstance(case.body, dict):
        # JSON Schema takes 1.0 for an integer. Go, which sends this, does not write it so.
        assume(not isinstance(case.body.get("truncatedAlerts"), float))
    STAGE.examples += 1
    # Of a notification, what cannot be read is set aside, and the rest is taken: 202.
    excluded: list[Any] = [negative_data_rejection] if case.path == "/webhook" else []
    if role is not Role.OPERATOR:
        excluded.append(unsupported_method)  # who may not is told that first
    headers = {"Authorization": f"Bearer {TOKENS[role][0]}"} if role else {}
    return case.call_and_validate(headers=headers, excluded_checks=excluded)


def examples(number: int) -> settings:
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@schema.parametrize()
@examples(EXAMPLES)
@pytest.mark.usefixtures("on_stage")
def test_every_answer_is_one_of_the_contract(case: schemathesis.Case[Any]) -> None:
    asked(case, Role.OPERATOR)


@pytest.mark.parametrize("role", [None, Role.WEBHOOK, Role.VIEWER][: scaled(1, 3)], ids=str)
@schema.parametrize()
@examples(scaled(3, 1_000))
@pytest.mark.usefixtures("on_stage")
def test_who_may_not_is_told_so_whatever_he_asks(
    case: schemathesis.Case[Any], role: Role | None
) -> None:
    """And who may is answered as the contract says."""
    needed = case.operation.definition.raw["x-role"]
    if case.method.upper() != case.operation.method.upper():  # they try others, too
        needed = Role.VIEWER if case.method.upper() in {"GET", "HEAD", "OPTIONS"} else Role.OPERATOR
    status = asked(case, role).status_code

    if needed in {"none", role}:
        assert status not in {401, 403}
    else:
        assert status == (401 if role is None else 403)
