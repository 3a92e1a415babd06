"""Behind a reverse proxy: below a path, with the client's address and scheme, and with no more.

The proxy is a small one of this file, in place of nginx, which is not among the tools. It does what
docs/how-to/reverse-proxy.md has nginx do.
"""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner

from receiver.cli import root
from tests.acceptance.server import Promheal, alert, notification, strategy
from tests.acceptance.test_access_live import ASKS_ALL, TOKENS
from tests.chain import wait_until

PREFIX = "/promheal"
HOST = "heal.example"
CLIENT = "203.0.113.77"
LOG = {"action": "log", "message": "{{ labels.number }}"}
STRATEGIES = {
    "logged": strategy(LOG, match="Logged", target=["number"]),
    "asked": strategy(LOG, match="Asked", target=["number"], mode="approve"),
}
FORGED = {
    "SCRIPT_NAME": "/api",
    "SCRIPT-NAME": "/api",
    "PATH_INFO": "/-/healthy",
    "REMOTE_USER": "alice",
    "REMOTE_ADDR": "127.0.0.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "X-Script-Name": "/evil",
    "Forwarded": "for=192.0.2.1;proto=https",
}


class Seen(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: str


def ask(
    port: int,
    method: str,
    path: str,
    body: str | bytes | None = None,
    headers: Mapping[str, str] = {},
) -> Seen:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {"Host": HOST, **headers})
        answer = connection.getresponse()
        return Seen(answer.status, dict(answer.getheaders()), answer.read().decode())
    finally:
        connection.close()


class SmallProxyInPlaceOfNginx:
    """Passes requests on with X-Forwarded-For and -Proto, and without *strip* before the path."""

    def __init__(self, port: int, strip: str = "") -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {n: t for n, t in self.headers.items() if n != "Connection"}
                known = self.headers.get("X-Forwarded-For")
                headers["X-Forwarded-For"] = f"{known}, {CLIENT}" if known else CLIENT
                headers["X-Forwarded-Proto"] = "https"
                got = ask(port, self.command, self.path.removeprefix(strip), body, headers)
                self.send_response(got.status)
                for name, text in got.headers.items():
                    if name not in {"Connection", "Transfer-Encoding", "Server", "Date"}:
                        self.send_header(name, text)
                self.end_headers()
                self.wfile.write(got.body.encode())

            do_GET = do_POST = do_DELETE = _pass_on  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Prefixed(Promheal):
    """Is asked below PREFIX by everything that asks it."""

    def ask(self, path: str, body: bytes | None = None, **more: Any) -> Any:
        return super().ask(PREFIX + path, body, **more)


@pytest.fixture(scope="module", params=["kept", "stripped"])
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[
    tuple[Promheal, SmallProxyInPlaceOfNginx]
]:  # fmt: skip
    """A promheal and its proxy, which keeps the path, or takes the prefix away."""
    kept = request.param == "kept"
    server = (Prefixed if kept else Promheal)(tmp_path_factory.mktemp("behind"), STRATEGIES)
    server.arguments += [
        f"--web.external-url=https://{HOST}{PREFIX}/",
        "--web.trust-proxy=127.0.0.1",
    ]
    if not kept:
        server.arguments.append("--web.route-prefix=/")
    with server, SmallProxyInPlaceOfNginx(server.port, "" if kept else PREFIX) as proxy:
        yield server, proxy


Behind = tuple[Promheal, SmallProxyInPlaceOfNginx]


def test_every_link_form_file_and_api_leads_through_the_proxy(behind: Behind) -> None:
    server, proxy = behind
    server.post(*(alert("Asked", number="1"), alert("Logged", number="1")))
    server.finished("logged")
    server.until("asked", lambda runs: runs, "it asks")

    known, waiting = set(), [f"{PREFIX}/"]
    while waiting:
        path = waiting.pop()
        known.add(path)
        page = ask(proxy.port, "GET", path)
        assert page.status == 200, path
        if "text/html" not in page.headers["Content-Type"]:
            continue
        found = re.findall(r'(?:href|src|action)="([^"#]+)', page.body)
        assert all(link.startswith(f"{PREFIX}/") for link in found), found
        links = [link.replace("&amp;", "&") for link in found if "/ui/" not in link]
        waiting += sorted(set(links) - known - set(waiting))
    kinds = ("/static/style.css", "/static/live.js", "/runs", "/runs/1", "/strategies/logged")
    assert {PREFIX + kind for kind in kinds} <= known

    for path in ("/-/healthy", "/-/ready", "/metrics", "/api/status", "/api/runs"):
        assert ask(proxy.port, "GET", PREFIX + path).status == 200, path
    status = json.loads(ask(proxy.port, "GET", f"{PREFIX}/api/status").body)
    for need in status["needs"]:
        assert all(link.startswith(f"{PREFIX}/") for link in need["links"].values())
    contract = ask(proxy.port, "GET", f"{PREFIX}/openapi.yaml").body
    assert f"- url: {PREFIX}/\n" in contract
    astray = ask(proxy.port, "GET", f"{PREFIX}/api/run").body
    assert f"did you mean GET {PREFIX}/api/runs" in astray


def test_a_form_changes_something_from_our_page_and_from_no_other(behind: Behind) -> None:
    _, proxy = behind
    for page in ("/", "/runs"):
        shown = ask(proxy.port, "GET", f"{PREFIX}/").body
        token = re.findall(r'name="token" value="([^"]+)"', shown)[0]
        assert f'name="page" value="{PREFIX}/"' in shown
        form = urlencode(
            {"token": token, "reason": "a test", "scope": "all", "for": "1m", "page": PREFIX + page}
        )
        kind = {"Content-Type": "application/x-www-form-urlencoded"}

        def send(origin: str, form: str = form, kind: Mapping[str, str] = kind) -> Seen:
            headers = {**kind, "Origin": origin, "X-Forwarded-Host": "evil.example"}
            return ask(proxy.port, "POST", f"{PREFIX}/ui/pause", form, headers)

        assert send("https://evil.example").status == 403
        done = send(f"https://{HOST}")
        assert (done.status, done.headers["Location"]) == (303, PREFIX + page)
    by_json = {"Content-Type": "application/json", "Origin": f"https://{HOST}"}
    path = f"{PREFIX}/api/system/heal/resume"
    assert ask(proxy.port, "POST", path, '{"reason": "a test"}', by_json).status == 200
    foreign = {**by_json, "Host": "evil.example", "X-Forwarded-Host": HOST}
    assert ask(proxy.port, "POST", path, '{"reason": "a test"}', foreign).status == 403
    assert ask(proxy.port, "GET", f"{PREFIX}/", headers={"Host": "evil.example"}).status == 403


def test_the_commands_reach_it_by_its_url(behind: Behind) -> None:
    server, proxy = behind
    assert server.post(alert("Logged", number="2")).status == 202
    server.finished("logged")
    runner = CliRunner()
    url = f"--url=http://127.0.0.1:{proxy.port}{PREFIX}/"
    found = runner.invoke(root, ["runs", url])
    assert found.exit_code == 0, found.output
    assert "logged" in found.output
    wrong = runner.invoke(root, ["runs", f"--url=http://127.0.0.1:{server.port}/elsewhere"])
    assert wrong.exit_code != 0
    assert "--web.route-prefix" in str(wrong.exception)


def test_the_log_says_who_the_client_is(behind: Behind) -> None:
    server, proxy = behind
    assert ask(proxy.port, "POST", f"{PREFIX}/webhook", "no JSON").status == 400
    assert ask(proxy.port, "GET", f"{PREFIX}/api/nothing").status == 404
    wait_until(lambda: server.log.read_text().count(CLIENT) >= 2, what="both are logged")


def test_what_is_not_below_the_prefix_is_not_served(tmp_path: Path) -> None:
    server = Prefixed(tmp_path, STRATEGIES)
    server.arguments.append(f"--web.route-prefix={PREFIX}")
    with server:
        for path in ("/", PREFIX):
            led = ask(server.port, "GET", path, headers={"Host": "localhost"})
            assert (led.status, led.headers["Location"]) == (302, f"{PREFIX}/")
        for path in ("/api/status", "/-/healthy", "/metrics", "/promhealing/", f"//evil{PREFIX}/"):
            assert ask(server.port, "GET", path, headers={"Host": "localhost"}).status == 404, path
        lost = ask(server.port, "POST", "/webhook", json.dumps(notification(alert("Logged"))))
        assert lost.status == 404
        assert f"did you mean {PREFIX}/webhook?" in lost.body
        assert "a request went astray" in server.log.read_text()
        assert server.post(alert("Logged", number="1")).status == 202
        server.finished("logged")


def test_no_client_names_its_path_its_user_or_its_address(tmp_path: Path) -> None:
    with Promheal(tmp_path, STRATEGIES) as server:
        body = json.dumps(notification(alert("Logged", number="1")))
        for name, text in FORGED.items():
            told = {name: text, "Host": "localhost", "Content-Type": "application/json"}
            assert ask(server.port, "GET", "/api/status", headers=told).status == 200, name
            assert ask(server.port, "POST", "/webhook", body, told).status == 202, name
        forged = {"X-Forwarded-For": CLIENT, "Host": "localhost"}
        assert ask(server.port, "POST", "/webhook", "no JSON", forged).status == 400
        assert ask(server.port, "GET", "/api/nothing", headers=forged).status == 404
        assert CLIENT not in server.log.read_text()
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("trusted", [False, True])
def test_passwords_are_throttled_by_the_client_that_a_trusted_proxy_names(
    tmp_path: Path, *, trusted: bool
) -> None:
    server = Promheal(tmp_path, STRATEGIES, web=ASKS_ALL, token=TOKENS["viewer"])
    if trusted:
        server.arguments.append("--web.trust-proxy=127.0.0.0/8")
    with server:

        def guess(password: str, client: str) -> int:
            headers = {"Authorization": _basic("alice", password), "X-Forwarded-For": client}
            return ask(server.port, "GET", "/api/status", headers=headers).status

        assert {guess(f"wrong {n}", f"198.51.100.9, {CLIENT}") for n in range(10)} == {401}
        assert guess("password-of-alice-77aa", CLIENT) == 401
        assert guess("password-of-alice-77aa", "192.0.2.1") == (200 if trusted else 401)


def test_a_variable_of_the_environment_is_no_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/elsewhere")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with Promheal(tmp_path, STRATEGIES) as server:
        assert server.get("/api/status")["issues"] is not None


def _basic(user: str, password: str) -> str:

    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
