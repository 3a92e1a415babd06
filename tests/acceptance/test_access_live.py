"""Who gets in, measured: every endpoint, every role, with curl, and Alertmanager as a client.

The table of docs/reference/access.md is what was measured here. To write it anew:
PROMHEAL_WRITE_DOCS=1 pytest tests/acceptance/test_access_live.py
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import bcrypt
import pytest
import trustme
import urllib3
from click.testing import CliRunner

from receiver.app import Options, build
from receiver.cli import root
from receiver.web.access.reloading import LOOK_AGAIN
from receiver.web.flask_app import create_app
from tests.acceptance.server import PATIENCE, Promheal, alert, ask, notification
from tests.acceptance.test_with_alertmanager import fire
from tests.chain import free_port, start_alertmanager, wait_until
from tests.tools import REPOSITORY

PAGE = REPOSITORY / "docs/reference/access.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"

TOKENS = {role: f"token-of-{role}-e0a1f3" for role in ("webhook", "viewer", "operator")}
PASSWORDS = {"alice": "password-of-alice-77aa", "bob": "password-of-bob-91c2"}
WRONG = "guessed-5d1e"
HASHES = {
    user: bcrypt.hashpw(password.encode(), bcrypt.gensalt(6)).decode()
    for user, password in PASSWORDS.items()
}
DIGESTS = {role: hashlib.sha256(token.encode()).hexdigest() for role, token in TOKENS.items()}
SECRETS = [*TOKENS.values(), *PASSWORDS.values(), WRONG, *HASHES.values(), *DIGESTS.values()]

ASKS_ALL: dict[str, Any] = {
    "basic_auth_users": HASHES,
    "roles": {"alice": "operator"},
    "bearer_tokens": [
        {"name": f"{role}-token", "role": role, "sha256": digest}
        for role, digest in DIGESTS.items()
    ],
    "http_server_config": {"headers": {"Strict-Transport-Security": "max-age=60"}},
}
TLS = {"cert_file": "server.crt", "key_file": "server.key", "client_ca_file": "ca.crt"}
CERTIFICATES = [
    {"san": f"{role}.example", "role": role} for role in ("webhook", "viewer", "operator")
]


class Certificates(NamedTuple):
    """In a folder: ca.crt, server.crt, and NAME.pem with key and certificate of each client."""

    folder: Path
    authority: trustme.CA

    def context(self, client: str = "") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        if client:
            context.load_cert_chain(self.folder / f"{client}.pem")
        return context

    def give_to(self, folder: Path) -> None:
        """Put what a server needs beside its web.yml."""
        for name in ("ca.crt", "server.crt", "server.key"):
            (folder / name).write_bytes((self.folder / name).read_bytes())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    server = authority.issue_cert("127.0.0.1", "localhost")
    server.cert_chain_pems[0].write_to_path(folder / "server.crt")
    server.private_key_pem.write_to_path(folder / "server.key")
    for name in ("webhook", "viewer", "operator", "stranger"):
        issued = authority.issue_cert(f"{name}.example")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    forged = trustme.CA().issue_cert("operator.example")
    forged.private_key_and_cert_chain_pem.write_to_path(folder / "forged.pem")
    return Certificates(folder, authority)


class Servers(NamedTuple):
    plain: Promheal
    tls: Promheal
    """Asks for a certificate, and takes a token or a password as well."""
    mutual: Promheal
    """Lets nobody in without a certificate."""
    open: Promheal
    """Asks nobody."""

    @property
    def all(self) -> Sequence[Promheal]:
        return tuple(self)


@pytest.fixture(scope="module")
def servers(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    for name in ("tls", "mutual"):
        (folder / name).mkdir()
        certificates.give_to(folder / name)
    if_given = {
        **ASKS_ALL,
        "tls_server_config": {**TLS, "client_auth_type": "VerifyClientCertIfGiven"},
        "client_certificates": CERTIFICATES,
    }
    required = {
        "tls_server_config": {**TLS, "client_auth_type": "RequireAndVerifyClientCert"},
        "client_certificates": CERTIFICATES,
    }
    token = TOKENS["viewer"]
    found = Servers(
        Promheal(folder / "plain", {}, web=ASKS_ALL, token=token),
        Promheal(folder / "tls", {}, web=if_given, token=token, context=certificates.context()),
        Promheal(folder / "mutual", {}, web=required, context=certificates.context("viewer")),
        Promheal(folder / "open", {}),
    )
    with ExitStack() as stack:
        for server in found.all:
            stack.callback(server.__exit__)
            server.launch()  # all at once
        for server in found.all:
            server.wait_ready()
        yield found


# ── curl ──


class Request(NamedTuple):
    method: str
    path: str
    headers: tuple[str, ...] = ()
    user: str = ""
    certificate: str = ""
    body: str = ""


class Response(NamedTuple):
    status: int
    """0: there was none."""
    body: str
    headers: str


def curl(server: Promheal, folder: Path, requests: Sequence[Request]) -> list[Response]:
    """Send all of *requests* with one curl."""
    folder.mkdir(parents=True, exist_ok=True)
    options = []
    for number, request in enumerate(requests):
        lines = {
            "url": f"{server.url}{request.path}",
            "output": f"{folder}/{number}.body",
            "dump-header": f"{folder}/{number}.headers",
            "write-out": "%{http_code}\\n",
            "max-time": "30",
            "cacert": str(CA.get(server.folder, "")),
            "user": request.user,
            "cert": request.certificate,
            "data-binary": request.body if request.method in {"POST", "PUT", "DELETE"} else "",
        }
        method = "head" if request.method == "HEAD" else f'request = "{request.method}"'
        said = [f"{name} = {json.dumps(value)}" for name, value in lines.items() if value]
        said += [f"header = {json.dumps(header)}" for header in request.headers]
        options.append("\n".join([*said, method, "silent", "globoff", "path-as-is"]))
    done = subprocess.run(
        ["curl", "--disable", "--config", "-"],
        input="\nnext\n".join(options),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    statuses = [int(line) for line in done.stdout.split()]
    assert len(statuses) == len(requests), (done.returncode, done.stderr)
    return [
        Response(status, _text(folder / f"{number}.body"), _text(folder / f"{number}.headers"))
        for number, status in enumerate(statuses)
    ]


CA: dict[Path, Path] = {}
"""What a server's certificate is checked with, by its folder."""


@pytest.fixture(scope="module", autouse=True)
def _trust(servers: Servers, certificates: Certificates) -> None:
    for server in (servers.tls, servers.mutual):
        CA[server.folder] = certificates.folder / "ca.crt"


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


JSON = "Content-Type: application/json"


def bearer(role: str) -> tuple[str, ...]:
    return (f"Authorization: Bearer {TOKENS.get(role, WRONG)}", JSON)


# ── every endpoint ──


class Endpoint(NamedTuple):
    method: str
    rule: str
    """Without choices: each is an endpoint of its own."""

    @property
    def path(self) -> str:
        """One that the rule matches."""
        return re.sub(r"<[^>]*>", "x", re.sub(r"<int:[^>]*>", "999999", self.rule))

    def __str__(self) -> str:
        return f"{self.method} {re.sub(r'<[a-z]+:', '<', self.rule)}"


def choices(rule: str) -> list[str]:
    """The rules of which *rule* is made: `/<any(a, b):what>` is `/a` and `/b`."""
    found = re.search(r"<any\(([^)]*)\):\w+>", rule)
    if found is None:
        return [rule]
    return [rule.replace(found[0], choice.strip()) for choice in found[1].split(",")]


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Endpoint]:
    """All that the application has, as it says itself."""
    folder = Promheal(tmp_path_factory.mktemp("endpoints"), {}).folder
    service = build(
        Options(config_file=folder / "promheal.yml", storage_url=f"sqlite:///{folder}/x.db")
    )
    try:
        rules = list(create_app(service).url_map.iter_rules())
    finally:
        service.close()
    return sorted(
        (
            Endpoint(method, each)
            for rule in rules
            for each in choices(rule.rule)
            for method in rule.methods or ()
        ),
        key=lambda endpoint: (endpoint.rule, endpoint.method),
    )


WHO: Mapping[str, Mapping[str, Any]] = {
    "nobody": {"headers": (JSON,)},
    "webhook": {"headers": bearer("webhook")},
    "viewer": {"headers": bearer("viewer")},
    "operator": {"headers": bearer("operator")},
    "wrong token": {"headers": bearer("wrong")},
    "wrong password": {"headers": (JSON,), "user": f"alice:{WRONG}"},
    "unknown user": {"headers": (JSON,), "user": f"carol:{PASSWORDS['alice']}"},
    "alice, an operator": {"headers": (JSON,), "user": f"alice:{PASSWORDS['alice']}"},
    "bob, a viewer": {"headers": (JSON,), "user": f"bob:{PASSWORDS['bob']}"},
}
ROLES = ("nobody", "webhook", "viewer", "operator")


def seen(method: str, response: Response) -> str:
    """How far a request came."""
    if response.status == 401:
        return "401"
    # The application has a 403 of its own: a form without its token.
    gate = re.search(r"; this needs |client certificate is needed", response.body)
    refused = response.status == 403 and (gate or method == "HEAD")
    return "403" if refused else "yes" if response.status else "none"


Measured = dict[str, dict[Endpoint, str]]


def measure(
    server: Promheal, folder: Path, endpoints: Sequence[Endpoint], who: Mapping[str, Any]
) -> Measured:
    asked = [
        Request(endpoint.method, endpoint.path, body="{}", **who[name])
        for name in who
        for endpoint in endpoints
    ]
    answers = iter(curl(server, folder, asked))
    return {
        name: {endpoint: seen(endpoint.method, next(answers)) for endpoint in endpoints}
        for name in who
    }


@pytest.fixture(scope="module")
def measured(
    servers: Servers, endpoints: list[Endpoint], tmp_path_factory: pytest.TempPathFactory
) -> Measured:
    return measure(servers.plain, tmp_path_factory.mktemp("plain"), endpoints, WHO)


@pytest.fixture(scope="module")
def measured_by_tls(
    servers: Servers,
    endpoints: list[Endpoint],
    certificates: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
) -> Measured:
    """Over TLS: the same, and by certificate."""
    by_certificate = {
        f"certificate of {name}": {
            "headers": (JSON,),
            "certificate": str(certificates.folder / f"{name}.pem"),
        }
        for name in ("webhook", "viewer", "operator", "stranger")
    }
    who = {**WHO, **by_certificate}
    return measure(servers.tls, tmp_path_factory.mktemp("tls"), endpoints, who)


def test_nobody_gets_past_what_is_open_to_all(measured: Measured) -> None:
    for name in ("nobody", "wrong token", "wrong password", "unknown user"):
        passed = {str(endpoint) for endpoint, far in measured[name].items() if far == "yes"}
        assert passed == {
            "GET /-/healthy", "HEAD /-/healthy", "GET /-/ready", "HEAD /-/ready",
        }, name  # fmt: skip
        assert {far for far in measured[name].values() if far != "yes"} == {"401"}


def test_the_webhook_s_role_may_post_notifications_and_nothing_else(measured: Measured) -> None:
    passed = {str(endpoint) for endpoint, far in measured["webhook"].items() if far == "yes"}
    assert passed == {
        "GET /-/healthy", "HEAD /-/healthy", "GET /-/ready", "HEAD /-/ready", "POST /webhook",
    }  # fmt: skip


def test_a_viewer_may_whatever_changes_nothing(measured: Measured) -> None:
    for endpoint, far in measured["viewer"].items():
        changes = endpoint.method not in {"GET", "HEAD", "OPTIONS"}
        assert far == ("403" if changes else "yes"), endpoint


def test_an_operator_may_everything(measured: Measured) -> None:
    assert set(measured["operator"].values()) == {"yes"}


def test_a_user_may_what_his_role_may(measured: Measured) -> None:
    assert measured["alice, an operator"] == measured["operator"]
    assert measured["bob, a viewer"] == measured["viewer"]


def test_over_tls_it_is_the_same_and_a_certificate_is_as_good_as_its_role(
    measured: Measured, measured_by_tls: Measured
) -> None:
    for name in WHO:
        assert measured_by_tls[name] == measured[name], name
    for role in ("webhook", "viewer", "operator"):
        assert measured_by_tls[f"certificate of {role}"] == measured[role]
    assert measured_by_tls["certificate of stranger"] == measured["nobody"]


def test_the_table_of_the_page_is_what_was_measured(measured: Measured) -> None:
    rows = [f"| request | {' | '.join(ROLES)} |", f"| --- |{' --- |' * len(ROLES)}"]
    for endpoint in measured["nobody"]:
        if endpoint.method not in {"HEAD", "OPTIONS"}:
            far = " | ".join(measured[role][endpoint] for role in ROLES)
            rows.append(f"| `{endpoint}` | {far} |")
    table = "\n".join(rows) + "\n"
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    if os.environ.get("PROMHEAL_WRITE_DOCS"):
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip() == table.strip()


def test_what_a_401_says_does_not_depend_on_what_was_wrong(
    servers: Servers, tmp_path: Path
) -> None:
    wrong = ("nobody", "wrong token", "wrong password", "unknown user")
    asked = [Request("GET", "/api/status", **WHO[name]) for name in wrong]
    asked += [Request("POST", "/webhook", body="{}", **WHO[name]) for name in wrong]
    answers = curl(servers.plain, tmp_path, asked)
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    told = {tuple(re.findall(r"(?im)^www-authenticate: (.*?)\r?$", a.headers)) for a in answers}
    assert told == {('Basic realm="promheal", charset="UTF-8"', 'Bearer realm="promheal"')}
    assert len({re.sub(r"(?m)^date:.*\n", "", a.headers.lower()) for a in answers[:4]}) == 1
    assert len({re.sub(r"(?m)^date:.*\n", "", a.headers.lower()) for a in answers[4:]}) == 1


def test_paths_that_are_written_in_another_way_open_nothing(
    servers: Servers, tmp_path: Path
) -> None:
    ways = [
        "//-/healthy",
        "/-/healthy/",
        "/-/healthy/../../api/status",
        "/-/../api/status",
        "/%2D/healthy/",
        "/-/healthy%2f..%2f..%2fapi/status",
        "/-/healthy?x=/api/status/../",
        "/api/status;/-/healthy",
        "/./api/status",
        "/API/status",
        "/api/status%00",
        "/api//status",
    ]
    for answer, way in zip(
        curl(servers.plain, tmp_path, [Request("GET", way) for way in ways]), ways, strict=True
    ):
        assert answer.status in {400, 401, 404} or way.startswith("/-/healthy?"), way
        assert '"selfHealing"' not in answer.body
    forged = (
        "SCRIPT_NAME: /api",
        "X-Original-URL: /-/healthy",
        "X-HTTP-Method-Override: GET",
        "X-Forwarded-User: alice",
        "promheal.role: operator",
    )
    (answer,) = curl(servers.plain, tmp_path, [Request("POST", "/api/tasks/pause", forged)])
    assert answer.status == 401


def test_without_a_certificate_the_handshake_fails_where_one_is_required(
    servers: Servers, certificates: Certificates, tmp_path: Path
) -> None:
    def request(name: str, path: str = "/api/status") -> Request:
        return Request("GET", path, certificate=f"{certificates.folder}/{name}.pem" if name else "")

    nobody, forged, viewer, webhook, stranger = curl(
        servers.mutual,
        tmp_path,
        [
            Request("GET", "/-/healthy", bearer("operator")),
            request("forged"),
            request("viewer"),
            request("webhook"),
            request("stranger"),
        ],
    )
    assert (nobody.status, forged.status) == (0, 0)
    assert viewer.status == 200
    assert (webhook.status, stranger.status) == (403, 403)
    assert "webhook.example is webhook; this needs viewer" in webhook.body
    assert "a client certificate is needed that has a role" in stranger.body


def test_the_operator_s_headers_are_on_every_answer(servers: Servers, tmp_path: Path) -> None:
    body = json.dumps(notification())
    answers = curl(
        servers.plain,
        tmp_path,
        [
            Request("GET", "/-/healthy"),
            Request("GET", "/"),
            Request("GET", "/", bearer("viewer")),
            Request("POST", "/webhook", bearer("webhook"), body=body),
            Request("POST", "/webhook", bearer("viewer"), body=body),
        ],
    )
    assert [answer.status for answer in answers] == [200, 401, 200, 202, 403]
    for answer in answers:
        assert "strict-transport-security: max-age=60" in answer.headers.lower()
        assert answer.headers.lower().count("x-content-type-options") == 1


# ── browsers ──


def test_a_server_that_asks_nobody_refuses_what_a_browser_was_made_to_send(
    servers: Servers, tmp_path: Path
) -> None:
    reload, port = "/-/reload", servers.open.port
    asked = [
        Request("POST", reload, (JSON,)),
        Request("POST", reload, (JSON, f"Origin: http://127.0.0.1:{port}")),
        Request("GET", "/api/status", (f"Host: localhost:{port}",)),
        Request("GET", "/api/status", ("Origin: http://evil.example",)),
        Request("POST", reload, ("Sec-Fetch-Site: cross-site",)),
        Request("POST", reload, ("Origin: http://evil.example",)),
        Request("POST", "/webhook", ("Origin: null", "Content-Type: text/plain"), body="{}"),
        Request("GET", "/api/status", ("Host: evil.example:3001",)),
        Request("POST", "/webhook", ("Host: evil.example", JSON), body="{}"),
    ]
    answers = curl(servers.open, tmp_path, asked)
    assert [answer.status for answer in answers] == [200] * 4 + [403] * 5
    assert "ask from promheal's own page" in answers[4].body
    assert "as 127.0.0.1 and localhost" in answers[-2].body
    wait_until(lambda: servers.open.metric("notifications_total", code="403") == 2)


def test_a_browser_that_knows_the_password_is_not_made_to_send_it(
    servers: Servers, tmp_path: Path
) -> None:
    headers = (*bearer("operator"), "Origin: https://evil.example")
    for server in (servers.plain, servers.tls):
        (answer,) = curl(server, tmp_path, [Request("POST", "/-/reload", headers)])
        assert (answer.status, "cross_site" in answer.body) == (403, True)


# ── Alertmanager ──


@pytest.fixture(scope="module")
def delivered(
    servers: Servers, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Each alert by another way; returns Alertmanager's log at the end of each."""
    folder = tmp_path_factory.mktemp("alertmanager")
    tokens = {}
    for role, token in {**TOKENS, "wrong": WRONG}.items():
        tokens[role] = folder / f"{role}.token"
        tokens[role].write_text(token)
    (folder / "bob.password").write_text(PASSWORDS["alice"])
    trust = {"ca_file": str(certificates.folder / "ca.crt")}
    pem = str(certificates.folder / "webhook.pem")

    def by_token(role: str) -> dict[str, Any]:
        return {"authorization": {"credentials_file": str(tokens[role])}}

    password = {"basic_auth": {"username": "alice", "password_file": f"{folder}/bob.password"}}
    ways: dict[str, tuple[Promheal, dict[str, Any]]] = {
        "bearer": (servers.plain, by_token("webhook")),
        "password": (servers.plain, password),
        "wrong": (servers.plain, by_token("wrong")),
        "viewer": (servers.plain, by_token("viewer")),
        "nothing": (servers.plain, {}),
        "bearer_tls": (servers.tls, {**by_token("webhook"), "tls_config": trust}),
        "certificate": (
            servers.mutual, {"tls_config": {**trust, "cert_file": pem, "key_file": pem}},
        ),
    }  # fmt: skip
    config = {
        "route": {
            "receiver": "bearer",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "4h",
            "routes": [{"receiver": way, "matchers": [f'way="{way}"']} for way in ways],
        },
        "receivers": [
            {
                "name": way,
                "webhook_configs": [{"url": f"{server.url}/webhook", "http_config": http}],
            }
            for way, (server, http) in ways.items()
        ],
    }
    with start_alertmanager(folder, config=config) as alertmanager:
        fire(alertmanager, *(alert("Way", way=way) for way in ways))
        yield str(alertmanager.log)


def ways_of(server: Promheal) -> set[str]:
    found = {one["labels"].get("way", "") for one in server.alerts().values()}
    return found - {""}


def test_alertmanager_delivers_by_token_password_and_certificate(
    delivered: str, servers: Servers
) -> None:
    for server, expected in (
        (servers.plain, {"bearer", "password"}),
        (servers.tls, {"bearer_tls"}),
        (servers.mutual, {"certificate"}),
    ):
        wait_until(lambda: ways_of(server) == expected, within=PATIENCE, what=f"{expected}")


def test_alertmanager_is_refused_without_the_right_token_and_promheal_counts_it(
    delivered: str, servers: Servers
) -> None:
    def log() -> str:
        return Path(delivered).read_text()

    wait_until(lambda: log().count("unexpected status code 401") >= 2, within=PATIENCE)
    wait_until(lambda: "unexpected status code 403" in log(), within=PATIENCE)
    wait_until(lambda: servers.plain.metric("notifications_total", code="401") >= 2)
    assert servers.plain.metric("notifications_total", code="403") >= 1
    assert ways_of(servers.plain).isdisjoint({"wrong", "viewer", "nothing"})


# ── it changes, and somebody guesses ──


@pytest.fixture(name="server")
def own_server(tmp_path: Path) -> Iterator[Promheal]:
    """One to be changed, off loopback."""
    found = Promheal(tmp_path / "own", {}, web=ASKS_ALL, token=TOKENS["viewer"])
    found.arguments.append(f"--web.listen-address=0.0.0.0:{found.port}")
    with found:
        yield found


def status_of(server: Promheal, token: str) -> int:
    return ask(f"{server.url}/api/status", token=token).status


def test_a_token_is_given_and_taken_away_without_a_restart(server: Promheal) -> None:
    new = "token-that-is-new-3f"
    entry = {"name": "n", "role": "viewer", "sha256": hashlib.sha256(new.encode()).hexdigest()}
    assert (status_of(server, TOKENS["viewer"]), status_of(server, new)) == (200, 401)
    server.configure_web({"bearer_tokens": [entry]})
    wait_until(lambda: status_of(server, new) == 200, within=LOOK_AGAIN + 5)
    assert status_of(server, TOKENS["viewer"]) == 401
    for broken in ({"bearer_tokens": [{"name": "n"}]}, {}, {"tls_server_config": TLS}):
        server.configure_web(broken)
        deadline = time.monotonic() + LOOK_AGAIN + 0.5
        while time.monotonic() < deadline:
            assert status_of(server, new) == 200
            time.sleep(0.1)
    log = server.tail()
    assert log.count("the old one stays") == 3
    assert "web.yml:3:3: missing key 'role'" in log
    assert f"it would open 0.0.0.0:{server.port} to everybody" in log
    server.token = new


def test_a_guesser_is_locked_out_and_a_token_from_the_same_address_is_not(
    server: Promheal, tmp_path: Path
) -> None:
    def get(user: str, password: str) -> Request:
        return Request("GET", "/api/status", user=f"{user}:{password}")

    before = curl(server, tmp_path, [get("bob", PASSWORDS["bob"])])
    guesses = curl(server, tmp_path, [get("alice", f"{WRONG}-{n}") for n in range(12)])
    after = curl(
        server,
        tmp_path,
        [
            get("alice", PASSWORDS["alice"]),
            get("bob", PASSWORDS["bob"]),
            Request("GET", "/api/status", bearer("operator")),
            Request("POST", "/webhook", bearer("webhook"), body=json.dumps(notification())),
        ],
    )
    assert [answer.status for answer in (*before, *guesses)] == [200] + [401] * 12
    assert [answer.status for answer in after] == [401, 200, 200, 202]
    assert after[0].body == guesses[0].body
    assert server.tail().count("a request was refused") == 1


def test_a_renewed_certificate_is_served_without_a_restart(
    certificates: Certificates, tmp_path: Path
) -> None:
    folder = tmp_path / "renewed"
    folder.mkdir()
    certificates.give_to(folder)
    web = {**ASKS_ALL, "tls_server_config": {"cert_file": "server.crt", "key_file": "server.key"}}

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", server.port))

    with Promheal(folder, {}, web=web, context=certificates.context()) as server:
        first = shown()
        new = certificates.authority.issue_cert("127.0.0.1")
        new.private_key_pem.write_to_path(folder / "server.key")
        new.cert_chain_pems[0].write_to_path(folder / "server.crt")
        wait_until(lambda: shown() != first, within=LOOK_AGAIN + 5)
        assert shown().split() == new.cert_chain_pems[0].bytes().decode().split()
        server.token = TOKENS["viewer"]
        assert server.get("/api/status")


# ── the start ──


def serve(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    Promheal(folder, {})
    config = (f"--config.file={folder}/promheal.yml", f"--storage.url=sqlite:///{folder}/j.db")
    return subprocess.run(
        [sys.executable, "-m", "receiver", "serve", *config, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("web", ["none", "empty", "headers", "TLS alone"])
def test_off_loopback_it_does_not_start_before_anybody_is_asked_who_he_is(
    certificates: Certificates, tmp_path: Path, web: str
) -> None:
    certificates.give_to(tmp_path)
    arguments = [f"--web.listen-address=0.0.0.0:{free_port()}"]
    content: dict[str, dict[str, Any]] = {
        "empty": {},
        "headers": {"http_server_config": ASKS_ALL["http_server_config"]},
        "TLS alone": {"tls_server_config": {"cert_file": "server.crt", "key_file": "server.key"}},
    }
    if web in content:
        (tmp_path / "web.yml").write_text(json.dumps(content[web]))
        arguments.append(f"--web.config.file={tmp_path}/web.yml")
    done = serve(tmp_path, *arguments)
    assert done.returncode == 2
    assert "has no access control" in done.stderr
    assert "promheal config web --out web.yml" in done.stderr
    assert ("TLS alone keeps nobody out" in done.stderr) == (web == "TLS alone")
    assert not list(tmp_path.glob("*.db")), "nothing was begun"


def test_a_web_configuration_that_is_wrong_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{alice: {WRONG}}}\n")
    done = serve(tmp_path, f"--web.config.file={tmp_path}/web.yml")
    assert done.returncode == 2
    assert "web.yml:1:27: expected a bcrypt hash" in done.stderr
    assert WRONG not in done.stderr


def test_what_config_web_writes_serves_with_the_certificate_that_it_tells_to_make(
    tmp_path: Path,
) -> None:
    written = CliRunner().invoke(
        root, ["config", "web", "--tls", "--user", "me", "--out", str(tmp_path / "web.yml")]
    )
    assert written.exit_code == 0
    told = re.search(
        r"^# +(openssl .*\\\n# +.*)$", (tmp_path / "web.yml").read_text(), re.MULTILINE
    )
    assert told is not None
    command = re.sub(r"\\\n# +", "", told[1]).replace("DNS:HOST", "IP:127.0.0.1")
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    webhook, _, operator, password = re.findall(
        r"^    ([\w-]{20,})   ", written.stderr, re.MULTILINE
    )
    context = ssl.create_default_context(cafile=str(tmp_path / "server.crt"))
    server = Promheal(tmp_path, {}, token=operator, context=context)
    server.arguments.append(f"--web.config.file={tmp_path}/web.yml")
    with server:
        assert server.get("/api/status")
        assert server.deliver(json.dumps(notification()).encode()).status == 202
        pool = urllib3.PoolManager(ssl_context=context)
        page = pool.request(
            "GET", f"{server.url}/", headers=urllib3.make_headers(basic_auth=f"me:{password}")
        )
        assert page.status == 200
        pool.clear()
        server.token = webhook
        assert server.deliver(json.dumps(notification()).encode()).status == 202
        assert server.ask("/api/status").status == 403
        assert not [s for s in (webhook, operator, password) if s in server.log.read_text()]


# ── last: what was said ──


def test_no_secret_is_in_a_log_an_answer_or_a_metric(
    servers: Servers, measured: Measured, measured_by_tls: Measured, delivered: str, tmp_path: Path
) -> None:
    for server in servers.all:
        said = server.log.read_text()
        assert "promheal" in said
        assert not [secret for secret in SECRETS if secret in said]
    assert "a request was refused" in servers.plain.log.read_text()
    paths = ("/metrics", "/api/status", "/api/audit", "/api/alerts", "/")
    for answer in curl(
        servers.plain, tmp_path, [Request("GET", path, bearer("operator")) for path in paths]
    ):
        assert answer.status == 200
        assert not [secret for secret in SECRETS if secret in answer.body + answer.headers]
