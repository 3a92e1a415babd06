"""The one HTTP client, with real servers and proxies: each key of an `http_config`, and bounds."""

from __future__ import annotations

import base64
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import trustme

from receiver.clients.http import HTTPClient, HTTPReply, NoReplyError
from receiver.clients.http_proxy import proxy_for
from receiver.errors import ActionError
from receiver.policy.http_config import (
    Authorization,
    BasicAuth,
    HTTPConfig,
    TLSConfig,
    TLSVersion,
)
from receiver.policy.http_headers import HTTPHeader
from receiver.redaction import redact
from tests.web_servers import Raw, Web, server_context, write_pem

SECRET = "v3ry-s3cret-value"


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as one:
        yield one


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def ask(
    url: str, config: HTTPConfig | None = None, *, method: str = "GET", **options: Any
) -> HTTPReply:
    options = {"timeout": 5.0, "most": 1_000, **options}
    return HTTPClient(config or HTTPConfig()).request(method, url, **options)


def sent(web: Web, **config: Any) -> dict[str, str]:
    """The headers that came with a request."""
    ask(web.url, HTTPConfig(**config))
    return web.asked[-1].headers


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


# --- who asks -------------------------------------------------------------------------------------


def test_basic_auth(web: Web, tmp_path: Path) -> None:
    (tmp_path / "name").write_text("ann\n")
    (tmp_path / "password").write_text(f"{SECRET} \n")
    files = BasicAuth(
        username_file=str(tmp_path / "name"), password_file=str(tmp_path / "password")
    )
    assert sent(web, basic_auth=files)["Authorization"] == basic("ann", f"{SECRET} ")
    plain = BasicAuth(username="ann", password="pé:ss")
    assert sent(web, basic_auth=plain)["Authorization"] == basic("ann", "pé:ss")


def test_authorization(web: Web, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    file = Authorization(credentials_file=str(tmp_path / "token"))
    assert sent(web, authorization=file)["Authorization"] == f"Bearer {SECRET}"
    other = Authorization(type=" Token ", credentials=SECRET)
    assert sent(web, authorization=other)["Authorization"] == f"Token {SECRET}"


def test_a_header_of_the_caller_wins(web: Web) -> None:
    config = HTTPConfig(
        authorization=Authorization(credentials="mine-is-not-sent"), headers={"X-A": "config"}
    )
    ask(web.url, config, headers={"authorization": "caller", "x-a": "caller"})
    headers = {name.lower(): value for name, value in web.asked[-1].headers.items()}
    assert (headers["authorization"], headers["x-a"]) == ("caller", "caller")


def test_headers(web: Web, tmp_path: Path) -> None:
    (tmp_path / "value").write_text(f"{SECRET}\n")
    found = sent(
        web,
        headers={"X-Scope-OrgID": "team-a"},
        http_headers={
            "X-Many": HTTPHeader(values=("a", "b"), secrets=("c",)),
            "X-File": HTTPHeader(files=(str(tmp_path / "value"),)),
        },
    )
    assert found["X-Scope-OrgID"] == "team-a"
    assert found["X-Many"] == "a, b, c"
    assert found["X-File"] == SECRET


def test_files_are_read_anew_when_they_change(web: Web, tmp_path: Path) -> None:
    password, token, value = (tmp_path / name for name in ("password", "token", "value"))
    with HTTPClient(
        HTTPConfig(
            basic_auth=BasicAuth(username="a", password_file=str(password)),
            http_headers={"X-File": HTTPHeader(files=(str(value),))},
        ),
        keep_alive=True,
    ) as client:
        for round_ in ("first-secret", "second-secret"):
            for file in (password, token, value):
                file.with_suffix(".new").write_text(round_)
                file.with_suffix(".new").replace(file)
            client.request("GET", web.url, timeout=5, most=100)
            headers = web.asked[-1].headers
            assert (headers["Authorization"], headers["X-File"]) == (basic("a", round_), round_)
    assert web.connections == 1
    # Both are secrets for good, in every form in which they were sent.
    for round_ in ("first-secret", "second-secret"):
        shown = redact(f"{round_} {basic('a', round_)}")
        assert round_ not in shown
        assert basic("a", round_).removeprefix("Basic ") not in shown


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (HTTPConfig(basic_auth=BasicAuth(username="a", password_file="/no")), "password_file /no"),
        (HTTPConfig(basic_auth=BasicAuth(username_file="/no")), "username_file /no: No such file"),
        (
            HTTPConfig(authorization=Authorization(credentials_file="/no")),
            "credentials_file /no: No such file",
        ),
        (
            HTTPConfig(http_headers={"X-A": HTTPHeader(files=("/no",))}),
            "http_headers X-A /no: No such file",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(web: Web, config: HTTPConfig, says: str) -> None:
    with pytest.raises(NoReplyError, match=says):
        ask(web.url, config)
    assert web.asked == []


# --- TLS ------------------------------------------------------------------------------------------


def tls(**options: Any) -> HTTPConfig:
    return HTTPConfig(tls_config=TLSConfig(**options))


def test_an_authority_of_our_own(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = write_pem(tmp_path / "ca.pem", authority.cert_pem)
    with Web(server_context(authority)) as web:
        assert ask(web.url, tls(ca_file=ca_file)).status == 200
        assert ask(web.url, tls(ca=Path(ca_file).read_text())).status == 200
        with pytest.raises(NoReplyError, match="unable to get local issuer"):
            ask(web.url)
        assert len(web.asked) == 2


def test_whom_the_system_trusts(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the list that comes with a package of Python; and a change of it counts at once."""
    bundle = tmp_path / "system.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    write_pem(bundle, trustme.CA().cert_pem)
    with Web(server_context(authority)) as web:
        with pytest.raises(NoReplyError, match="unable to get local issuer"):
            ask(web.url)
        write_pem(bundle, trustme.CA().cert_pem, authority.cert_pem)
        assert ask(web.url).status == 200


def test_a_name_that_the_certificate_does_not_have(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = write_pem(tmp_path / "ca.pem", authority.cert_pem)
    with Web(server_context(authority, "prometheus.example")) as web:
        with pytest.raises(NoReplyError, match="Hostname mismatch"):
            ask(web.url, tls(ca_file=ca_file))
        found = ask(web.url, tls(ca_file=ca_file, server_name="prometheus.example"))
        assert found.status == 200
        assert ask(web.url, tls(insecure_skip_verify=True)).status == 200


def test_a_client_certificate_and_its_renewal(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = write_pem(tmp_path / "ca.pem", authority.cert_pem)
    clients, strangers = trustme.CA(), trustme.CA()
    pair = {"cert_file": str(tmp_path / "me.crt"), "key_file": str(tmp_path / "me.key")}

    def issue(by: trustme.CA) -> None:
        mine = by.issue_cert("ann@example")
        write_pem(tmp_path / "me.crt", *mine.cert_chain_pems)
        write_pem(tmp_path / "me.key", mine.private_key_pem)

    with Web(server_context(authority, clients=clients)) as web:
        with pytest.raises(NoReplyError):
            ask(web.url, tls(ca_file=ca_file))
        issue(strangers)
        with HTTPClient(tls(ca_file=ca_file, **pair), keep_alive=True) as client:
            with pytest.raises(NoReplyError):
                client.request("GET", web.url, timeout=5, most=1)
            issue(clients)
            assert client.request("GET", web.url, timeout=5, most=9).status == 200


def test_a_new_authority_counts_without_a_reload(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = write_pem(tmp_path / "ca.pem", authority.cert_pem)
    with (
        Web(server_context(authority)) as web,
        HTTPClient(tls(ca_file=ca_file), keep_alive=True) as client,
    ):
        assert client.request("GET", web.url, timeout=5, most=9).status == 200
        write_pem(tmp_path / "ca.pem", trustme.CA().cert_pem)
        with pytest.raises(NoReplyError):  # on no connection that was trusted before
            client.request("GET", web.url, timeout=5, most=9)
        write_pem(tmp_path / "ca.pem", authority.cert_pem)
        assert client.request("GET", web.url, timeout=5, most=9).status == 200


@pytest.mark.parametrize(
    ("server", "ours", "works"),
    [
        (ssl.TLSVersion.TLSv1_2, {}, True),
        (ssl.TLSVersion.TLSv1_2, {"min_version": TLSVersion.TLS13}, False),
        (ssl.TLSVersion.TLSv1_3, {"max_version": TLSVersion.TLS12}, False),
        (ssl.TLSVersion.TLSv1_3, {"min_version": TLSVersion.TLS13}, True),
    ],
)
def test_versions_of_tls(
    authority: trustme.CA,
    tmp_path: Path,
    server: ssl.TLSVersion,
    ours: dict[str, TLSVersion],
    works: bool,
) -> None:
    ca_file = write_pem(tmp_path / "ca.pem", authority.cert_pem)
    context = server_context(authority)
    context.minimum_version = context.maximum_version = server
    with Web(context) as web:
        if works:
            assert ask(web.url, tls(ca_file=ca_file, **ours)).status == 200
        else:
            with pytest.raises(NoReplyError):
                ask(web.url, tls(ca_file=ca_file, **ours))


def test_files_of_tls_that_cannot_be_used_are_named(authority: trustme.CA, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    mine, other = authority.issue_cert("a.example"), authority.issue_cert("a.example")
    cert = write_pem(tmp_path / "me.crt", *mine.cert_chain_pems)
    key = write_pem(tmp_path / "other.key", other.private_key_pem)
    for config, says in (
        (tls(ca_file="/no"), "ca_file /no: No such file or directory"),
        (tls(ca_file=str(tmp_path / "no.pem")), "no.pem holds no certificate in PEM"),
        (tls(ca="text"), "tls_config.ca holds no certificate"),
        (tls(cert_file=cert, key_file="/no"), "key_file /no: No such file"),
        (tls(cert_file=cert, key_file=key), "other.key: key values mismatch"),
    ):
        with pytest.raises(NoReplyError, match=says):
            ask("https://127.0.0.1:1/", config)


# --- by which way ---------------------------------------------------------------------------------


def test_a_proxy_is_sent_the_request(web: Web) -> None:
    with Web() as proxy:
        config = HTTPConfig(proxy_url=f"http://me:{SECRET}@127.0.0.1:{proxy.port}")
        assert ask(f"{web.url}/a?b=c", config).status == 200
        (asked,) = proxy.asked
        assert asked.target == f"{web.url}/a?b=c"
        assert asked.headers["Host"] == f"localhost:{web.port}"
        assert asked.headers["Proxy-Authorization"] == basic("me", SECRET)
        assert web.asked == []


def test_tls_is_tunnelled(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = write_pem(tmp_path / "ca.pem", authority.cert_pem)
    with Web(server_context(authority)) as web, Web() as proxy:
        config = HTTPConfig(
            tls_config=TLSConfig(ca_file=ca_file),
            proxy_url=f"http://me:{SECRET}@127.0.0.1:{proxy.port}",
            authorization=Authorization(credentials="for-the-server-only"),
        )
        assert ask(f"{web.url}/a", config).body == b"fine"
        assert proxy.asked[0].target == f"localhost:{web.port}"
        assert proxy.asked[0].headers["Proxy-Authorization"] == basic("me", SECRET)
        assert "Authorization" not in proxy.asked[0].headers
        assert "Proxy-Authorization" not in web.asked[0].headers
        proxy.answers["CONNECT"] = (407, {"X": SECRET}, b"")
        with pytest.raises(NoReplyError, match="the proxy answered 407 to CONNECT localhost"):
            ask(web.url, config)


def test_the_proxy_of_the_environment_only_when_asked_for(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Web() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        ask(web.url)
        assert (len(web.asked), len(proxy.asked)) == (1, 0)
        config = HTTPConfig(proxy_from_environment=True)
        ask("http://prometheus.example/", config)
        assert proxy.asked[0].target == "http://prometheus.example/"
        ask(web.url, config)  # never for this machine itself, as in Go
        monkeypatch.setenv("NO_PROXY", "prometheus.example")
        with pytest.raises(NoReplyError):
            ask("http://prometheus.example:1/", config, timeout=0.5)
        assert (len(web.asked), len(proxy.asked)) == (2, 1)


@pytest.mark.parametrize(
    ("no_proxy", "host", "exempt"),
    [
        ("*", "a.example", True),
        ("example", "a.example", True),
        ("example", "example", True),
        (".example", "example", False),
        (".example", "a.example", True),
        ("*.example", "a.example", True),
        ("ample", "a.example", False),
        ("a.example:80", "a.example", True),
        ("a.example:81", "a.example", False),
        ("other, a.example", "a.example", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:80", "10.1.2.3", True),
        ("2001:db8::/32", "[2001:db8::1]", True),
        ("2001:db8::1", "[2001:db8::1]", True),
        ("nonsense/x", "a.example", False),
        ("other", "localhost", True),
        ("other", "127.0.0.9", True),
    ],
)
def test_no_proxy(no_proxy: str, host: str, exempt: bool) -> None:
    config = HTTPConfig(proxy_url="http://proxy.example:3128", no_proxy=no_proxy)
    assert (proxy_for(config, urlsplit(f"http://{host}/")) is None) == exempt


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere")

        thread = threading.Thread(target=serve)
        thread.start()
        client = HTTPClient(socket_path=path)
        assert client.request("GET", "http://docker/x", timeout=5, most=99).body == b"here"
        thread.join()


# --- redirects ------------------------------------------------------------------------------------

FOLLOWS = HTTPConfig(
    follow_redirects=True,
    authorization=Authorization(credentials=SECRET),
    headers={"X-Scope-OrgID": "team-a"},
)


def test_redirects_are_followed_only_when_asked_for(web: Web) -> None:
    web.answers["/"] = (302, {"Location": "/there"}, b"")
    assert ask(f"{web.url}/").location == "/there"
    assert ask(f"{web.url}/", FOLLOWS).body == b"fine"
    assert [each.target for each in web.asked] == ["/", "/", "/there"]
    assert web.asked[-1].headers["Authorization"] == f"Bearer {SECRET}"


def test_another_host_gets_no_credentials(web: Web) -> None:
    with Web() as other:
        web.answers["/"] = (307, {"Location": f"{other.url}/there"}, b"")
        ask(f"{web.url}/", FOLLOWS, method="POST", data=b"x", headers={"X-Mine": SECRET})
        (asked,) = other.asked
        assert (asked.method, asked.body) == ("POST", b"x")
        assert not {"Authorization", "X-Scope-OrgID", "X-Mine"} & set(asked.headers)
        assert asked.headers["User-Agent"] == "promheal"


@pytest.mark.parametrize(
    ("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
)
def test_what_becomes_of_a_post(web: Web, status: int, method: str) -> None:
    web.answers["/"] = (status, {"Location": "/there"}, b"")
    ask(f"{web.url}/", FOLLOWS, method="POST", data=b"x")
    assert web.asked[-1].method == method
    assert web.asked[-1].body == (b"x" if method == "POST" else b"")


def test_redirects_end(web: Web) -> None:
    web.answers["/"] = (302, {"Location": "/"}, b"")
    with pytest.raises(NoReplyError, match="more than 10 redirects"):
        ask(f"{web.url}/", FOLLOWS)
    web.answers["/"] = (302, {"Location": "file:///etc/passwd"}, b"")
    with pytest.raises(NoReplyError, match="cannot be followed"):
        ask(f"{web.url}/", FOLLOWS)


def test_a_redirect_leads_nowhere_that_is_not_allowed(web: Web) -> None:
    with Web() as other:
        web.answers["/"] = (302, {"Location": f"{other.url}/"}, b"")

        def allowed(url: str) -> None:
            if not url.startswith(web.url):
                raise ActionError(f"{url} is refused")

        with pytest.raises(ActionError, match="is refused"):
            ask(f"{web.url}/", FOLLOWS, allowed=allowed)
        assert other.asked == []


# --- bounds ---------------------------------------------------------------------------------------


def _drips(first: bytes) -> Any:
    def drip(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    return drip


@pytest.mark.parametrize(
    "does",
    [
        lambda connection: time.sleep(9),
        _drips(b""),
        _drips(b"HTTP/1.1 200 OK\r\nX: "),
        _drips(b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
    ids=["silent", "status", "header", "body"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_deadline_is_for_all_of_it(does: Any, scheme: str) -> None:
    with Raw(does) as server:
        began = time.monotonic()
        with pytest.raises(NoReplyError) as raised:
            ask(f"{scheme}://127.0.0.1:{server.port}/", timeout=0.4, most=1 << 30)
        assert time.monotonic() - began < 2
        assert raised.value.late or scheme == "https"


def test_a_proxy_that_drips_ends_too() -> None:
    with Raw(_drips(b"HTTP/1.1 200 OK\r\nX: ")) as proxy:
        began = time.monotonic()
        with pytest.raises(NoReplyError) as raised:
            ask("https://a.example/", HTTPConfig(proxy_url=proxy.url), timeout=0.4)
        assert raised.value.late
        assert time.monotonic() - began < 2


def test_a_kept_connection_has_a_deadline_for_each_exchange(web: Web) -> None:
    with HTTPClient(keep_alive=True) as client:
        for _ in range(3):
            client.request("GET", web.url, timeout=0.4, most=99)
            time.sleep(0.3)
    assert web.connections == 1


def test_a_body_is_cut(web: Web) -> None:
    web.answers["/"] = (200, {}, b"x" * 100_000)
    reply = ask(f"{web.url}/", most=1_000)
    assert (reply.body, reply.cut) == (b"x" * 1_000, True)
    assert ask(f"{web.url}/", most=100_000).cut is False


def test_a_body_that_nobody_wants_is_not_waited_for() -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        time.sleep(9)

    with Raw(answer) as server:
        assert ask(server.url, most=0, timeout=3).status == 200


def test_no_cookie_is_kept_and_nothing_is_packed(web: Web) -> None:
    web.answers["/"] = (200, {"Set-Cookie": "a=b"}, b"")
    with HTTPClient(keep_alive=True) as client:
        for _ in range(2):
            client.request("GET", f"{web.url}/", timeout=5, most=9)
    assert "Cookie" not in web.asked[-1].headers
    assert web.asked[-1].headers["Accept-Encoding"] == "identity"


def test_many_threads_share_a_client(web: Web) -> None:
    with HTTPClient(keep_alive=True) as client:
        found: list[int] = []

        def one() -> None:
            for _ in range(10):
                found.append(client.request("GET", web.url, timeout=5, most=9).status)  # noqa: PERF401

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [200] * 80
    assert web.connections <= 8


def test_no_log_repeats_what_was_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(f"HTTP/1.1 200 OK\r\n{SECRET}\r\n\r\n".encode())

    with Raw(answer) as server:
        ask(server.url)
    assert SECRET not in caplog.text


def test_a_config_is_as_good_as_its_copy() -> None:
    config = HTTPConfig(http_headers={"X-A": HTTPHeader(values=("a",))})
    assert hash(config) == hash(msgspec.structs.replace(config))
