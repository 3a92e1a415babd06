"""Who may do what: the judge, browsers, the rate limit, the log, and the gate before Flask."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

import bcrypt
import msgspec
import pytest

from receiver.app import Promheal
from receiver.web import webhook
from receiver.web.access.auth import AuthMiddleware, added, merged
from receiver.web.access.control import AccessControl
from receiver.web.access.denied_requests import ADDRESSES, LINES, LOG_AGAIN
from receiver.web.access.verdict import WEBHOOK, AuthRequest, Denied, Granted
from receiver.web.access.web_config import ClientCertificate, RequestLimit, Role, Token, WebConfig
from receiver.web.flask_app import create_app
from receiver.web.server.tls import IF_GIVEN, REQUIRED, Tls

SECRETS = {"webhook": "webhook-token", "viewer": "viewer-token", "operator": "operator-token"}


@cache
def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def tokens(**of: str) -> dict[str, Token]:
    found = {}
    for role, secret in of.items():
        digest = hashlib.sha256(secret.encode()).hexdigest()
        found[digest] = Token(name=f"{role}-name", sha256=digest, role=Role(role))
    return found


CONFIG = WebConfig(
    users={"alice": hashed("alice-password"), "bob": hashed("bob-password")},
    roles={"alice": Role.OPERATOR},
    tokens=tokens(**SECRETS),
)


class Clock:
    def __init__(self) -> None:
        self.now = 10_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def bearer(role: str) -> str:
    return f"Bearer {SECRETS[role]}"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def judge(
    config: WebConfig, method: str, path: str, authorization: str = "", **more: Any
) -> Granted | Denied:
    access = AccessControl(lambda: config, loopback=False)
    return access.judge(
        AuthRequest(
            method=method, path=path, authorization=authorization, address="192.0.2.1", **more
        )
    )


def status(verdict: Granted | Denied) -> int:
    return verdict.status if isinstance(verdict, Denied) else 200


# ── roles ──


@pytest.mark.parametrize(
    ("method", "path", "may"),
    [
        ("POST", "/webhook", {"webhook", "operator"}),
        ("GET", "/webhook", {"viewer", "operator"}),
        ("PUT", "/webhook", {"operator"}),
        ("POST", "/webhook/", {"operator"}),
        ("POST", "//webhook", {"operator"}),
        ("POST", "/Webhook", {"operator"}),
        ("GET", "/", {"viewer", "operator"}),
        ("GET", "/metrics", {"viewer", "operator"}),
        ("HEAD", "/api/status", {"viewer", "operator"}),
        ("OPTIONS", "/api/status", {"viewer", "operator"}),
        ("GET", "/no/such/path", {"viewer", "operator"}),
        ("POST", "/-/reload", {"operator"}),
        ("POST", "/-/healthy", {"operator"}),
        ("POST", "/api/system/heal/resume", {"operator"}),
        ("DELETE", "/api/tasks/resync", {"operator"}),
        ("TRACE", "/", {"operator"}),
        ("BREW", "/", {"operator"}),
        ("get", "/", {"operator"}),
        ("GET", "/-/healthy", {"nobody", "webhook", "viewer", "operator"}),
        ("HEAD", "/-/ready", {"nobody", "webhook", "viewer", "operator"}),
        ("GET", "/-/healthy/", {"viewer", "operator"}),
        ("GET", "/-/ready;x", {"viewer", "operator"}),
    ],
)
def test_a_role_may_what_it_is_for(method: str, path: str, may: set[str]) -> None:
    for role in SECRETS:
        assert status(judge(CONFIG, method, path, bearer(role))) == (200 if role in may else 403)
    assert status(judge(CONFIG, method, path)) == (200 if "nobody" in may else 401)
    if "nobody" not in may:
        assert status(judge(CONFIG, method, path, "Bearer wrong")) == 401


def test_the_webhook_is_where_it_is_served() -> None:
    assert WEBHOOK == webhook.PATH


def test_who_it_was_is_said() -> None:
    assert judge(CONFIG, "GET", "/", bearer("viewer")) == Granted("viewer-name", "viewer")
    assert judge(CONFIG, "POST", "/x", basic("alice", "alice-password")) == Granted(
        "alice", "operator"
    )
    assert judge(CONFIG, "GET", "/x", basic("bob", "bob-password")) == Granted("bob", "viewer")
    assert judge(CONFIG, "GET", "/-/ready") == Granted("anonymous", "nobody")


def test_a_known_user_without_the_role_is_logged_what_it_needs() -> None:
    verdict = judge(CONFIG, "POST", "/-/reload", basic("bob", "bob-password"))
    assert isinstance(verdict, Denied)
    assert (verdict.status, verdict.code) == (403, "forbidden")
    assert verdict.message == "bob is viewer; this needs operator"


def test_a_sender_on_the_wrong_path_is_logged_the_right_one() -> None:
    verdict = judge(CONFIG, "POST", "/alerts", bearer("webhook"))
    assert isinstance(verdict, Denied)
    assert verdict.message == (
        "webhook-name is webhook; this needs operator; notifications go to POST /webhook"
    )


WRONG = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong",
    f"Bearer {hashlib.sha256(b'operator-token').hexdigest()}",
    "Bearer operator-token x",
    "Bearer \udcff\ud800",
    "Basic",
    "Basic !!!",
    "Basic b3BlcmF0b3I=",
    basic("alice", "wrong"),
    basic("alice", ""),
    basic("Alice", "alice-password"),
    basic("nobody", "alice-password"),
    basic("", ""),
    basic("alice", "x" * 8000),
    basic("operator-name", SECRETS["operator"]),
    f"Basic {SECRETS['operator']}",
    f"Digest {SECRETS['operator']}",
    SECRETS["operator"],
    f"token {SECRETS['operator']}",
    "Negotiate YII=",
]


@pytest.mark.parametrize("authorization", WRONG)
def test_every_401_is_the_same(authorization: str) -> None:
    first = judge(CONFIG, "GET", "/api/status")
    verdict = judge(CONFIG, "GET", "/api/status", authorization)
    assert isinstance(first, Denied)
    assert isinstance(verdict, Denied)
    assert (verdict.status, verdict.body, verdict.headers) == (401, first.body, first.headers)
    challenges = [value.split()[0] for name, value in verdict.headers if "Authenticate" in name]
    assert challenges == ["Basic", "Bearer"]


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
def test_the_scheme_may_be_written_in_any_case(scheme: str) -> None:
    assert status(judge(CONFIG, "GET", "/", f"{scheme} viewer-token")) == 200


def test_only_what_is_configured_is_asked_for() -> None:
    only_tokens = msgspec.structs.replace(CONFIG, users={}, roles={})
    verdict = judge(only_tokens, "GET", "/", basic("alice", "alice-password"))
    assert isinstance(verdict, Denied)
    assert [value.split()[0] for _, value in verdict.headers] == ["Bearer"]


def test_colons_belong_to_the_password() -> None:
    config = WebConfig(users={"alice": hashed("a:b:c")})
    assert status(judge(config, "GET", "/", basic("alice", "a:b:c"))) == 200


def test_names_and_passwords_are_utf_8() -> None:
    config = WebConfig(users={"älice": hashed("pässword")})
    assert status(judge(config, "GET", "/", basic("älice", "pässword"))) == 200


# ── certificates ──


def tls(kind: str, *sans: str) -> Tls:
    return Tls(client_auth_type=kind, client_allowed_sans=sans)


def certificate(*names: tuple[str, str]) -> dict[str, Any]:
    """As Python shows it."""
    return {"subject": ((("commonName", "alertmanager"),),), "subjectAltName": names}


ALERTMANAGER = certificate(("DNS", "alertmanager.example"), ("IP Address", "192.0.2.9"))
STRANGER = certificate(("DNS", "stranger.example"))
LISTED = (
    ClientCertificate(san="alertmanager.example", role=Role.WEBHOOK, name="am"),
    ClientCertificate(san="mailto:oncall@example.org", role=Role.OPERATOR),
    ClientCertificate(san="192.0.2.10", role=Role.VIEWER),
)


def test_a_certificate_has_the_role_of_its_name() -> None:
    config = WebConfig(tls=tls(REQUIRED), certificates=LISTED)
    verdict = judge(config, "POST", "/webhook", certificate=ALERTMANAGER)
    assert verdict == Granted("am", "webhook")
    assert status(judge(config, "GET", "/", certificate=ALERTMANAGER)) == 403
    oncall = certificate(("URI", "mailto:oncall@example.org"))
    assert judge(config, "POST", "/-/reload", certificate=oncall) == Granted(
        "mailto:oncall@example.org", "operator"
    )
    viewer = certificate(("IP Address", "192.0.2.10\n"))
    assert status(judge(config, "GET", "/", certificate=viewer)) == 200


def test_the_common_name_of_a_certificate_proves_nothing() -> None:
    named = (ClientCertificate(san="alertmanager", role=Role.OPERATOR),)
    config = WebConfig(tls=tls(REQUIRED), certificates=named)
    assert status(judge(config, "POST", "/-/reload", certificate=ALERTMANAGER)) == 403


def test_a_certificate_that_is_not_listed_has_no_role() -> None:
    config = WebConfig(tls=tls(REQUIRED), certificates=LISTED)
    assert status(judge(config, "GET", "/", certificate=STRANGER)) == 403
    with_tokens = msgspec.structs.replace(config, tokens=CONFIG.tokens)
    assert status(judge(with_tokens, "GET", "/", certificate=STRANGER)) == 401
    assert status(judge(with_tokens, "GET", "/", bearer("viewer"), certificate=STRANGER)) == 200


def test_where_certificates_alone_are_asked_for_they_may_read() -> None:
    """As a file of Prometheus has it, which knows no roles."""
    config = WebConfig(tls=tls(REQUIRED))
    assert judge(config, "GET", "/", certificate=STRANGER) == Granted("stranger.example", "viewer")
    assert status(judge(config, "POST", "/-/reload", certificate=STRANGER)) == 403
    nameless = {"subject": ()}
    assert judge(config, "GET", "/", certificate=nameless) == Granted("certificate", "viewer")


def test_a_connection_that_is_older_than_the_rule_is_judged_by_the_rule() -> None:
    config = WebConfig(tls=tls(REQUIRED), tokens=CONFIG.tokens)
    assert status(judge(config, "GET", "/", bearer("viewer"))) == 403
    assert status(judge(config, "GET", "/-/healthy")) == 403


def test_only_the_allowed_names_get_in_whatever_else_they_know() -> None:
    config = WebConfig(tls=tls(REQUIRED, "192.0.2.9", "x"), tokens=CONFIG.tokens)
    assert status(judge(config, "GET", "/", bearer("viewer"), certificate=ALERTMANAGER)) == 200
    assert status(judge(config, "GET", "/", bearer("viewer"), certificate=STRANGER)) == 403
    assert status(judge(config, "GET", "/-/healthy", certificate=STRANGER)) == 403


def test_what_is_said_in_the_header_wins_over_the_certificate() -> None:
    config = WebConfig(tls=tls(IF_GIVEN), certificates=LISTED, tokens=CONFIG.tokens)
    verdict = judge(config, "POST", "/-/reload", bearer("operator"), certificate=ALERTMANAGER)
    assert verdict == Granted("operator-name", "operator")
    wrong = judge(config, "POST", "/webhook", "Bearer wrong", certificate=ALERTMANAGER)
    assert status(wrong) == 401
    assert status(judge(config, "POST", "/webhook")) == 401


def test_a_header_that_means_nothing_here_is_no_reason_to_refuse() -> None:
    config = WebConfig(tls=tls(REQUIRED), certificates=LISTED)
    verdict = judge(config, "POST", "/webhook", basic("a", "b"), certificate=ALERTMANAGER)
    assert verdict == Granted("am", "webhook")


# ── nobody is asked who he is ──


def open_judge(method: str, path: str = "/-/reload", *, url: str = "", **more: Any) -> int:
    access = AccessControl(loopback=True, external_url=url)
    return status(access.judge(AuthRequest(method=method, path=path, address="127.0.0.1", **more)))


def test_without_access_control_everybody_is_an_operator() -> None:
    verdict = AccessControl().judge(
        AuthRequest(method="POST", path="/-/reload", host="127.0.0.1:3001")
    )
    assert verdict == Granted("anonymous", "operator")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:3001", "127.0.0.1", "127.1.2.3:1", "localhost:3001", "LOCALHOST", "localhost.:3001",
     "a.localhost:3001", "[::1]:3001", "[::1]", "", "promheal.example", "Promheal.Example:8443"],
)  # fmt: skip
def test_by_its_own_names_it_answers(host: str) -> None:
    assert open_judge("GET", "/", host=host, url="https://promheal.example/x") == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example:3001", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0:3001",
     "192.0.2.1:3001", "notlocalhost", "promheal.example.evil.example", "[::1", "[", "a@127.0.0.1",
     "127.0.0.1@evil.example", ":3001", " ", "\u0131", "127.1", "0x7f.1"],
)  # fmt: skip
def test_by_another_name_it_does_not_answer(host: str) -> None:
    """A page may have led its own name to 127.0.0.1."""
    for method, path in (("GET", "/api/runs"), ("POST", "/webhook"), ("GET", "/-/healthy")):
        assert open_judge(method, path, host=host, url="https://promheal.example") == 403


CROSS = [
    {"site": "cross-site"},
    {"site": "Cross-Site", "origin": "http://127.0.0.1:3001"},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "http://localhost:3001"},
    {"origin": "http://127.0.0.1:3001.evil.example"},
    {"origin": "http://["},
    {"origin": "file://"},
    {"site": "same-site", "origin": "http://other.promheal.example"},
]


@pytest.mark.parametrize("headers", CROSS)
def test_a_page_of_another_site_changes_nothing(headers: Mapping[str, str]) -> None:
    for method, path in (("POST", "/-/reload"), ("POST", "/webhook"), ("DELETE", "/api/tasks/x")):
        assert open_judge(method, path, host="127.0.0.1:3001", **headers) == 403
    assert open_judge("GET", "/", host="127.0.0.1:3001", **headers) == 200


@pytest.mark.parametrize("headers", CROSS)
def test_a_browser_that_knows_the_password_changes_nothing_for_others(
    headers: Mapping[str, str],
) -> None:
    verdict = judge(
        CONFIG, "POST", "/-/reload", bearer("operator"), host="promheal.example", **headers
    )
    assert isinstance(verdict, Denied)
    assert (verdict.status, verdict.code) == (403, "cross_site")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"site": "same-origin", "origin": "http://127.0.0.1:3001"},
        {"site": "none"},
        {"site": "same-origin", "origin": "null"},  # of a page with Referrer-Policy: no-referrer
        {"origin": "https://promheal.example"},
        {"origin": "https://PROMHEAL.example"},
    ],
)
def test_our_own_page_and_programs_may(headers: Mapping[str, str]) -> None:
    url = "https://promheal.example/heal/"
    assert open_judge("POST", host="127.0.0.1:3001", url=url, **headers) == 200


# ── the rate limit ──


def test_a_rate_limit_holds_for_all_but_notifications_and_probes(clock: Clock) -> None:
    config = msgspec.structs.replace(CONFIG, rate_limit=RequestLimit(interval=2.0, burst=3))
    access = AccessControl(lambda: config, loopback=False, clock=clock)

    def ask(method: str, path: str, role: str = "operator") -> int:
        return status(
            access.judge(AuthRequest(method=method, path=path, authorization=bearer(role)))
        )

    assert [ask("GET", "/") for _ in range(5)] == [200, 200, 200, 429, 429]
    assert ask("POST", "/webhook") == 200
    assert ask("GET", "/-/healthy") == 200
    clock.now += 2.0
    assert [ask("GET", "/") for _ in range(2)] == [200, 429]
    clock.now += 3600.0
    assert [ask("GET", "/") for _ in range(4)] == [200, 200, 200, 429]
    config = CONFIG
    assert ask("GET", "/") == 200


# ── what is counted and logged ──


def ask_often(access: AccessControl, times: int, address: str = "192.0.2.1", **more: Any) -> None:
    for _ in range(times):
        access.judge(AuthRequest(method="GET", path="/api/status", address=address, **more))


def test_denied_are_counted_by_status_and_those_of_the_webhook_are_logged(clock: Clock) -> None:
    told: list[int] = []
    access = AccessControl(lambda: CONFIG, loopback=False, on_refused=told.append, clock=clock)
    ask_often(access, 3)
    ask_often(access, 2, authorization=bearer("webhook"))
    ask_often(access, 4, authorization=bearer("viewer"))
    assert access.refused == {"401": 3, "403": 2, "429": 0}
    assert told == []
    access.judge(AuthRequest(method="POST", path="/webhook"))
    access.judge(AuthRequest(method="POST", path="/webhook", authorization=bearer("viewer")))
    access.judge(AuthRequest(method="GET", path="/webhook"))
    assert told == [401, 403]


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "promheal.access"]


def test_an_address_is_logged_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    access = AccessControl(lambda: CONFIG, loopback=False, clock=clock)
    ask_often(access, 50)
    ask_often(access, 1, "192.0.2.2", authorization=bearer("webhook"))
    clock.now += LOG_AGAIN
    ask_often(access, 2, authorization=basic("alice", "no"))
    said = [
        (line["address"], line["status"], line["why"], line["user"], line["times"])
        for line in lines(caplog)
    ]
    assert said == [
        ("192.0.2.1", 401, "no credentials", None, 1),
        ("192.0.2.2", 403, "needs viewer", "webhook-name", 1),
        ("192.0.2.1", 401, "password wrong", "alice", 50),
    ]


def test_ten_thousand_addresses_write_thirty_lines_a_minute(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    access = AccessControl(lambda: CONFIG, loopback=False, clock=clock)
    for number in range(10_000):
        ask_often(access, 1, f"198.{number // 62_500}.{number // 250 % 250}.{number % 250}")
    assert len(lines(caplog)) == LINES
    assert len(access._denied._logged) == ADDRESSES
    clock.now += LOG_AGAIN
    ask_often(access, 1, "203.0.113.1")
    assert len(lines(caplog)) == LINES + 1


def test_nothing_that_was_typed_is_logged(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Passwords are typed as names too, and a path may be long."""
    caplog.set_level(logging.DEBUG)
    access = AccessControl(lambda: CONFIG, loopback=False, clock=clock)
    for number, authorization in enumerate(
        (basic("hunter2", "hunter2"), "Bearer hunter2", "hunter2", basic("alice", "hunter2"))
    ):
        ask_often(access, 1, f"192.0.2.{number}", authorization=authorization)
    access.judge(AuthRequest(method="GET" * 5000, path="/x" * 5000, address="192.0.2.9"))
    assert len(lines(caplog)) == 5
    assert "hunter2" not in "".join(str(line) for line in lines(caplog))
    assert len(str(lines(caplog)[-1]["path"])) == 200


# ── the gate ──


def client(service: Promheal, access: AccessControl) -> Any:
    app = create_app(service)
    app.wsgi_app = AuthMiddleware(app.wsgi_app, access)  # type: ignore[method-assign]
    return app.test_client()


def test_the_gate_lets_through_whom_the_judge_grants_and_nobody_else(service: Promheal) -> None:
    asker = client(service, AccessControl(lambda: CONFIG, loopback=False))
    refused = asker.get("/api/status")
    assert refused.status_code == 401
    assert refused.json["error"]["code"] == "unauthorized"
    assert [value.split()[0] for value in refused.headers.getlist("WWW-Authenticate")] == [
        "Basic",
        "Bearer",
    ]
    assert refused.headers["Cache-Control"] == "no-store"
    assert asker.head("/api/status").data == b""
    granted = asker.get("/api/status", headers={"Authorization": bearer("viewer")})
    assert granted.status_code == 200
    forbidden = asker.post("/-/reload", headers={"Authorization": bearer("viewer")})
    assert forbidden.status_code == 403
    assert asker.get("/-/healthy").status_code == 200
    assert asker.get("/no/such").status_code == 401, "who knows nobody learns no paths"


def test_the_application_is_logged_who_asks() -> None:
    seen: list[tuple[str, str]] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append((environ["promheal.user"], environ["promheal.role"]))
        start_response("200 OK", [])
        return []

    gate = AuthMiddleware(app, AccessControl(lambda: CONFIG, loopback=False))
    gate(
        {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "HTTP_AUTHORIZATION": bearer("viewer"),
            "HTTP_PROMHEAL.USER": "root",
        },
        lambda *_: bytes,
    )
    assert seen == [("viewer-name", "viewer")]


def test_the_operator_s_headers_are_on_every_answer(service: Promheal) -> None:
    headers = (("X-Frame-Options", "deny"), ("Content-Security-Policy", "frame-ancestors 'none'"))
    config = msgspec.structs.replace(CONFIG, headers=headers)
    asker = client(service, AccessControl(lambda: config, loopback=False))
    for answer in (
        asker.get("/-/healthy"),
        asker.get("/api/status"),
        asker.get("/no", headers={"Authorization": bearer("viewer")}),
    ):
        assert answer.headers["X-Frame-Options"] == "deny"
        assert "frame-ancestors 'none'" in answer.headers.getlist("Content-Security-Policy")


def test_the_operator_s_headers_replace_ours_but_a_policy_is_added() -> None:
    ours = [("x-frame-options", "DENY"), ("Content-Security-Policy", "default-src 'self'")]
    theirs = [("X-Frame-Options", "sameorigin"), ("Content-Security-Policy", "img-src *")]
    assert merged(ours, theirs) == [ours[1], *theirs]
    assert added([("X-Content-Type-Options", "nosniff"), *theirs]) == theirs
