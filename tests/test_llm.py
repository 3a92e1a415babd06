"""Keys are tried against real servers, some of which hang, lie, lead astray or repeat the key."""

from __future__ import annotations

import logging
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from receiver.clients.llm import KeyHealth, KeyState, KeySummary, LlmKeys, ProviderHealth
from receiver.settings import LlmProvider, LlmSettings, Settings
from receiver.yaml.diagnostics import Report
from receiver.yaml.nodes import parse
from receiver.yaml.values import Readers
from tests.chain import free_port

SECRET = "sk-very-secret-0123456789"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Answer = Callable[[socket.socket], None]


def status(line: str, *headers: str, body: str = "") -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {line}", f"Content-Length: {len(body)}", *headers))
    return f"{head}\r\n\r\n{body}".encode()


class Stub:
    """A server of one answer, byte by byte as a test wants it, that remembers what it was asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answer: bytes | Answer = OK
        self.asked: list[str] = []
        stub = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):  # clients hang up, as they should
                    connection = self.request
                    if context is not None:
                        connection = context.wrap_socket(connection, server_side=True)
                    question = b""
                    while not question.endswith(b"\r\n\r\n") and (byte := connection.recv(1)):
                        question += byte
                    stub.asked.append(question.decode("latin-1"))
                    if callable(stub.answer):
                        stub.answer(connection)
                    else:
                        connection.sendall(stub.answer)
                    connection.close()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Stub]:
    stub = Stub(context)
    try:
        yield stub
    finally:
        stub.close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as stub:
        yield stub


def provider(url: str, *names: str, **more: Any) -> LlmProvider:
    return LlmProvider(base_url=url, keys=names or ("API_KEY",), **more)


def keys(
    providers: dict[str, LlmProvider],
    environ: dict[str, str] | None = None,
    *,
    timeout: float = 5.0,
) -> LlmKeys:
    ticks = count(100)
    return LlmKeys(
        LlmSettings(providers=providers, timeout=timeout),
        {"API_KEY": SECRET} if environ is None else environ,
        lambda: float(next(ticks)),
    )


def probed(
    url: str, environ: dict[str, str] | None = None, *, timeout: float = 5.0, **more: Any
) -> KeyHealth:
    """What is known of the only key after it was tried."""
    found = keys({"one": provider(url, **more)}, environ, timeout=timeout)
    found.probe("one")
    (health,) = found.providers()[0].keys
    assert SECRET not in repr(health)
    return health


# --- what is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Authorization", "authorization"])
def test_a_key_that_is_taken_is_active(stub: Stub, header: str) -> None:
    assert probed(stub.url, header=header) == KeyHealth(
        name="API_KEY", state=KeyState.ACTIVE, checked_at=100.0
    )
    (question,) = stub.asked
    assert question == (
        "GET /v1/models HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{stub.port}\r\n"
        "Accept-Encoding: identity\r\n"
        "User-Agent: promheal\r\n"
        "Accept: application/json\r\n"
        "Connection: close\r\n"
        f"{header}: Bearer {SECRET}\r\n\r\n"
    )


def test_anthropic_is_told_a_version(stub: Stub) -> None:
    assert probed(f"{stub.url}/", header="x-api-key").state is KeyState.ACTIVE
    assert "GET /v1/models HTTP/1.1" in stub.asked[0]
    assert f"\r\nx-api-key: {SECRET}\r\nanthropic-version: 2023-06-01\r\n" in stub.asked[0]
    assert "uthorization" not in stub.asked[0]


def test_any_other_header_has_the_key_as_it_is(stub: Stub) -> None:
    assert probed(stub.url, header="api-key").state is KeyState.ACTIVE
    assert f"\r\napi-key: {SECRET}\r\n\r\n" in stub.asked[0]


def test_a_key_may_have_the_letters_that_a_header_may_have(stub: Stub) -> None:
    assert probed(stub.url, {"API_KEY": "sk-é"}).state is KeyState.ACTIVE
    assert "Bearer sk-é" in stub.asked[0]


@pytest.mark.parametrize(
    ("environ", "detail"),
    [
        ({}, "API_KEY is not set"),
        ({"API_KEY": ""}, "API_KEY is not set"),
        ({"API_KEY": " \n"}, "API_KEY is not set"),
        ({"API_KEY": f"{SECRET}\n"}, "API_KEY holds no key"),
        ({"API_KEY": f"{SECRET}\r\nX-Other: 1"}, "API_KEY holds no key"),
        ({"API_KEY": f"{SECRET}\0"}, "API_KEY holds no key"),
        ({"API_KEY": f"{SECRET}\x85"}, "API_KEY holds no key"),
        ({"API_KEY": f"{SECRET}…"}, "API_KEY holds no key"),
        ({"API_KEY": f"{SECRET}\udcff"}, "API_KEY holds no key"),
    ],
)
def test_what_is_no_key_is_not_sent(stub: Stub, environ: dict[str, str], detail: str) -> None:
    health = probed(stub.url, environ)
    assert (health.state, health.detail) == (KeyState.FAILED, detail)
    assert health.checked_at == 100.0
    assert stub.asked == []


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://",
            "http://[",
            "https://:443/v1",
            "http://host:port",
            "http://host:0",
            "http:///v1",
        ),
        *("http://host/v1?a=b", "http://host/v1#a", "http://user:password@host/v1"),
        *("http://host/a b", "http://host/a\r\nX: 1", "http://hóst/v1"),
    ],
)
def test_a_base_url_that_cannot_be_asked(url: str) -> None:
    health = probed(url)
    assert health.detail == "base_url cannot be asked; write for example https://api.example.com/v1"


def test_a_host_that_is_too_long_to_be_looked_up() -> None:
    assert probed(f"http://{'a' * 70}/v1").detail == "base_url has no host that can be looked up"


@pytest.mark.parametrize("header", ["", "a b", "X-Key:", "a\r\nb", "é"])
def test_a_header_that_is_none(stub: Stub, header: str) -> None:
    assert probed(stub.url, header=header).detail.startswith("header is no name of a header")
    assert stub.asked == []


def test_neither_proxies_nor_netrc_of_the_environment_are_used(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login other password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert probed(stub.url).state is KeyState.ACTIVE
    assert f"Bearer {SECRET}" in stub.asked[0]


# --- what is answered -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("201 Created", ""),
        ("401 Unauthorized", "refused (401)"),
        ("403 Forbidden", "refused (403)"),
        ("404 Not Found", "unexpected answer (404)"),
        ("429 Too Many Requests", "rate limited (429)"),
        ("500 Internal Server Error", "unexpected answer (500)"),
        ("529 Overloaded", "unexpected answer (529)"),
        ("101 Switching Protocols", "unexpected answer (101)"),
    ],
)
def test_the_status_tells_whether_it_works(stub: Stub, line: str, detail: str) -> None:
    stub.answer = status(line)
    health = probed(stub.url)
    assert health.detail == detail
    assert health.state is (KeyState.FAILED if detail else KeyState.ACTIVE)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(stub: Stub, code: int) -> None:
    with serving() as other:
        stub.answer = status(f"{code} Moved", f"Location: {other.url}/models")
        assert probed(stub.url).detail == f"a redirect, which is not followed ({code})"
        assert len(stub.asked) == 1
        assert other.asked == []


ECHOES = {
    "body": status("401 Unauthorized", body=f'{{"error": "the key {SECRET} is wrong"}}'),
    "reason": status(f"401 {SECRET}"),
    "header": status("401 Unauthorized", f"X-Key: {SECRET}"),
    "location": status("302 Found", f"Location: http://127.0.0.1/{SECRET}"),
    "no HTTP": f"{SECRET}\r\n".encode(),
    "no status": f"HTTP/1.1 {SECRET}\r\n\r\n".encode(),
    "no version": f"HTTP/{SECRET} 200 OK\r\n\r\n".encode(),
    "no header": f"HTTP/1.1 401 Unauthorized\r\n{SECRET}\r\n\r\n".encode(),
    "long line": b"HTTP/1.1 200 OK\r\nX: " + SECRET.encode() * 9_000 + b"\r\n\r\n",
    "many lines": b"HTTP/1.1 200 OK\r\n" + f"X: {SECRET}\r\n".encode() * 900 + b"\r\n",
}


@pytest.mark.parametrize("echo", ECHOES)
def test_what_a_server_repeats_of_the_key_is_not_passed_on(
    stub: Stub,
    echo: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    stub.answer = ECHOES[echo]
    found = keys({"one": provider(stub.url)})
    found.probe("one")
    assert SECRET in stub.asked[0]
    health = found.providers()[0].keys[0]
    assert health.state is KeyState.FAILED
    assert health.detail
    shown = [
        *(repr(found), str(found), repr(found.summary()), repr(found.providers())),
        *(msgspec.json.encode(found.providers()).decode(), caplog.text, *capfd.readouterr()),
    ]
    assert not any("very-secret" in text for text in shown)


def test_a_key_that_stands_where_its_name_belongs_is_not_shown(stub: Stub) -> None:
    found = keys({"one": provider(stub.url, "API_KEY", SECRET)})
    found.probe("one")
    _, health = found.providers()[0].keys
    assert health.name == "keys[1]"
    assert health.state is KeyState.FAILED
    assert health.detail.startswith("keys[1] is no name of a variable; write the name of the one")
    assert SECRET not in repr(found.providers())
    assert len(stub.asked) == 1


# --- who does not answer --------------------------------------------------------------------------


def test_nobody_is_there() -> None:
    assert probed(f"http://127.0.0.1:{free_port()}").detail == "Connection refused"


def test_it_hangs_up(stub: Stub) -> None:
    stub.answer = b""
    assert probed(stub.url).detail == "hung up without an answer"


def test_it_speaks_something_else(stub: Stub) -> None:
    stub.answer = b"220 mail.example ESMTP\r\n"
    assert probed(stub.url).detail == "the answer is not HTTP"


def _silent(connection: socket.socket) -> None:
    connection.recv(1)


def _drips(connection: socket.socket) -> None:
    """A header that never ends: each byte is in time, the whole is not."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def _goes_on(connection: socket.socket) -> None:
    """Interim answers for ever, which clients skip."""
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.02)


@pytest.mark.parametrize("answer", [_silent, _drips, _goes_on])
def test_an_answer_that_never_comes_is_waited_for_no_longer_than_the_time_out(
    stub: Stub, answer: Answer
) -> None:
    stub.answer = answer
    began = time.monotonic()
    assert probed(stub.url, timeout=0.4).detail == "no answer within 0.4s"
    assert time.monotonic() - began < 1.5


def test_a_body_without_an_end_is_not_read(stub: Stub) -> None:
    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" " * 65_536)

    stub.answer = endless
    began = time.monotonic()
    assert probed(stub.url, timeout=5).state is KeyState.ACTIVE
    assert time.monotonic() - began < 2


def test_the_addresses_of_a_host_share_the_time_where_the_look_up_is_made_up(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):  # no third one is let in, or told so
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        there = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        found = [(*there, full.getsockname()), (*there, ("127.0.0.1", stub.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert probed("http://api.example", timeout=1).state is KeyState.ACTIVE

        found[1:] = found[:1] * 9
        began = time.monotonic()
        assert probed("http://api.example", timeout=0.5).detail == "no answer within 0.5s"
        assert time.monotonic() - began < 1.5


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """Trusted by this process."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


def tls(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_tls_with_an_authority_that_is_trusted(authority: trustme.CA) -> None:
    with serving(tls(authority)) as stub:
        assert probed(f"https://localhost:{stub.port}/v1").state is KeyState.ACTIVE
        assert f"Host: localhost:{stub.port}\r\n" in stub.asked[0]


@pytest.mark.parametrize(
    ("trusted", "name", "detail"),
    [
        (False, "localhost", "TLS: unable to get local issuer certificate"),
        (True, "other.example", "TLS: Hostname mismatch"),
    ],
)
def test_the_key_is_not_sent_to_whom_the_certificate_does_not_name(
    authority: trustme.CA, trusted: bool, name: str, detail: str
) -> None:
    with serving(tls(authority if trusted else trustme.CA(), name)) as stub:
        health = probed(f"https://localhost:{stub.port}/v1")
        assert health.detail.startswith(detail)
        assert stub.asked == []


def test_tls_where_none_is_spoken(stub: Stub, authority: trustme.CA) -> None:
    stub.answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    health = probed(stub.url.replace("http:", "https:"), timeout=1)
    assert health.state is KeyState.FAILED
    assert SECRET not in "".join(stub.asked)


# --- all of them ----------------------------------------------------------------------------------


def test_each_key_is_counted_once_for_each_provider(stub: Stub) -> None:
    found = keys(
        {
            "one": provider(stub.url, "A", "B", "A"),
            "two": provider(stub.url, "A", "NOT_SET"),
        },
        {"A": "1", "B": "2"},
    )
    assert found.summary() == KeySummary(total=4, active=0, failed=0)
    assert not found.summary().all_failed
    assert not found.usable("one")

    found.probe("one")
    found.probe("two")
    assert found.summary() == KeySummary(total=4, active=3, failed=1)
    assert found.usable("one")
    assert len(stub.asked) == 3
    active = KeyHealth(name="A", state=KeyState.ACTIVE, checked_at=100.0)
    assert found.providers() == (
        ProviderHealth(
            name="one",
            keys=(active, msgspec.structs.replace(active, name="B", checked_at=101.0)),
        ),
        ProviderHealth(
            name="two",
            keys=(
                msgspec.structs.replace(active, checked_at=102.0),
                KeyHealth(
                    name="NOT_SET",
                    state=KeyState.FAILED,
                    detail="NOT_SET is not set",
                    checked_at=103.0,
                ),
            ),
        ),
    )


def test_all_failed_only_when_there_are_some_and_each_was_tried(stub: Stub) -> None:
    found = keys({"one": provider(stub.url), "two": provider(stub.url)})
    told = [keys({}).summary().all_failed, found.summary().all_failed]
    for name, answer in (("one", b""), ("two", b""), ("two", OK), ("two", b"")):
        stub.answer = answer
        found.probe(name)
        told.append(found.summary().all_failed)
    assert told == [False, False, False, True, False, True]


def test_a_provider_is_usable_while_one_of_its_keys_works(stub: Stub) -> None:
    found = keys({"one": provider(stub.url, "NOT_SET", "API_KEY"), "two": provider(stub.url)})
    told = [found.usable("one")]
    for answer in (OK, b"", OK):
        stub.answer = answer
        found.probe("one")
        told.append(found.usable("one"))
    assert told == [False, True, False, True]
    assert not found.usable("two")


def test_a_provider_that_a_reload_took_away_has_no_keys() -> None:
    found = keys({})
    found.probe("gone")
    assert not found.usable("gone")
    assert found.providers() == ()
    assert found.summary() == KeySummary()


def test_a_reload_keeps_what_is_known_of_keys_that_are_the_same(stub: Stub) -> None:
    names = ("same", "other_key", "other_url", "other_header", "gone")
    before = keys(
        {name: provider(stub.url, *(["OTHER"] * (name == "other_key"))) for name in names},
        {"API_KEY": SECRET, "OTHER": "1"},
    )
    for name in names:
        before.probe(name)
    assert before.summary().active == 5

    after = keys(
        {
            "new": provider(stub.url),
            "same": provider(stub.url),
            "other_key": provider(stub.url, "OTHER"),
            "other_url": provider(f"{stub.url}/other"),
            "other_header": provider(stub.url, header="x-api-key"),
        },
        {"API_KEY": SECRET, "OTHER": "2"},
    )
    after.carry(before)
    assert [each.name for each in after.providers() if each.keys[0].state is KeyState.ACTIVE] == [
        "same"
    ]
    assert after.providers()[1].keys == before.providers()[0].keys
    assert after.summary() == KeySummary(total=5, active=1, failed=0)


def test_a_key_that_is_added_does_not_make_the_others_unknown(stub: Stub) -> None:
    before = keys({"one": provider(stub.url)})
    before.probe("one")
    after = keys({"one": provider(stub.url, "NEW", "API_KEY")})
    after.carry(before)
    assert [key.state for key in after.providers()[0].keys] == [KeyState.UNKNOWN, KeyState.ACTIVE]


def test_threads_share_them(stub: Stub) -> None:
    names = [f"p{number}" for number in range(4)]
    found = keys({name: provider(stub.url, "API_KEY", "NOT_SET") for name in names})
    seen: list[KeySummary] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(found.summary())
            found.providers()

    reader = threading.Thread(target=read)
    reader.start()
    probes = [threading.Thread(target=found.probe, args=(name,)) for name in names * 4]
    for thread in probes:
        thread.start()
    for thread in probes:
        thread.join()
    done.set()
    reader.join()
    assert found.summary() == KeySummary(total=8, active=4, failed=4)
    assert all(one.active <= two.active for one, two in pairwise(seen))


def test_they_are_read_from_yaml(stub: Stub) -> None:
    text = f"llm: {{providers: {{one: {{base_url: '{stub.url}', keys: [API_KEY]}}}}}}\n"
    report = Report("promheal.yml", text)
    node = parse(text, report)
    assert node is not None
    settings = Readers().of(Settings)(node, report)
    assert not report.problems
    found = LlmKeys(settings.llm, {"API_KEY": SECRET}, lambda: 1.0)
    found.probe("one")
    assert found.usable("one")
