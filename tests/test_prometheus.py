from __future__ import annotations

import http.server
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from receiver.clients import http_upstream
from receiver.clients.prometheus import Prometheus
from receiver.errors import UpstreamError
from receiver.policy.promql import Sample
from receiver.settings import PrometheusSettings
from tests.chain import Exporter, free_port, start_prometheus, wait_until

VECTOR = b'{"status":"success","data":{"resultType":"vector","result":[]}}'


class Stub:
    """An HTTP server that answers everything with the same, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.chunks: tuple[bytes, ...] = (VECTOR,)
        self.delay = 0.0
        self.asked: list[tuple[str, dict[str, str], dict[str, list[str]]]] = []
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                form = parse_qs(self.rfile.read(length).decode())
                stub.asked.append((self.path, dict(self.headers), form))
                self.send_response(stub.status)
                for name, value in stub.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(sum(map(len, stub.chunks))))
                try:
                    self.end_headers()
                    for chunk in stub.chunks:
                        self.wfile.write(chunk)
                        self.wfile.flush()
                        time.sleep(stub.delay)
                except OSError:
                    self.close_connection = True

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Clients hang up, as they should."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, body: bytes | str, status: int = 200) -> None:
        self.chunks = (body.encode() if isinstance(body, str) else body,)
        self.status = status

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.close()


def client(url: str, timeout: float = 5.0, **settings: Any) -> Prometheus:
    return Prometheus(PrometheusSettings(url=url, timeout=timeout, **settings))


# --- what cannot be used --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (
            422,
            '{"status":"error","errorType":"execution","error":"found duplicate series"}',
            "/api/v1/query: 422 found duplicate series",
        ),
        (
            400,
            '{"status":"error","errorType":"bad_data","error":"1:4: parse error"}',
            "/api/v1/query: 400 1:4: parse error",
        ),
        (503, "Service Unavailable\nplease wait", "/api/v1/query: 503 Service Unavailable"),
        (500, b"\xff\xfe", "/api/v1/query: 500 \ufffd\ufffd"),
        (502, "", "/api/v1/query: 502"),
        (302, "", "/api/v1/query: 302"),
        (404, '"not here"', "/api/v1/query: 404 not here"),
        (
            200,
            '{"status":"error","errorType":"timeout","error":"query timed out"}',
            "/api/v1/query: error timeout: query timed out",
        ),
        (200, "<html>", "/api/v1/query: the answer is not Prometheus': JSON is malformed"),
        (200, "{}", "/api/v1/query: the answer is not Prometheus': Object missing required"),
        (200, '{"status":"success"}', "/api/v1/query: the answer is not Prometheus': Expected"),
        (
            200,
            '{"status":"success","data":{"resultType":"matrix","result":[]}}',
            "/api/v1/query: the answer is a matrix, not an instant vector",
        ),
        (
            200,
            '{"status":"success","data":{"resultType":"string","result":[1,"x"]}}',
            "/api/v1/query: the answer is a string, not an instant vector",
        ),
        (
            200,
            '{"status":"success","data":{"resultType":"scalar","result":[1,"many"]}}',
            "/api/v1/query: 'many' is no number",
        ),
        (
            200,
            '{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":1}}]}}',
            "/api/v1/query: the answer is not Prometheus': Expected `str`, got `int`",
        ),
    ],
)
def test_says_why_an_answer_cannot_be_used(
    stub: Stub, status: int, body: str | bytes, text: str
) -> None:
    stub.answer(body, status)
    with pytest.raises(UpstreamError) as raised:
        client(stub.url).query("up")
    assert str(raised.value).startswith(text)


def test_a_redirect_is_not_followed(stub: Stub) -> None:
    stub.status, stub.headers = 307, {"Location": f"{stub.url}/elsewhere"}
    with pytest.raises(UpstreamError, match="307"):
        client(stub.url).query("up")
    assert len(stub.asked) == 1


def test_refused() -> None:
    with pytest.raises(UpstreamError, match=r"^/api/v1/query: Connection refused$"):
        client(f"http://127.0.0.1:{free_port()}").query("up")


@pytest.mark.parametrize("url", ["http://", "http://[", "ftp://host", "prometheus:9090", ""])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(UpstreamError, match=r"^/api/v1/query: "):
        client(url).query("up")


def test_a_slow_answer(stub: Stub) -> None:
    """Each packet is in time, the whole is not."""
    stub.chunks, stub.delay = (b" ",) * 100 + (VECTOR,), 0.05
    began = time.monotonic()
    with pytest.raises(UpstreamError, match=r"^/api/v1/query: no answer within 0\.5s$"):
        client(stub.url, timeout=0.5).query("up")
    assert time.monotonic() - began < 2


def test_an_endless_answer(stub: Stub) -> None:
    stub.chunks = (b" " * 1024 * 1024,) * 18
    with pytest.raises(UpstreamError, match="larger than 16777216 bytes"):
        client(stub.url).query("up")


def test_an_answer_that_breaks_off(stub: Stub) -> None:
    stub.headers = {"Content-Length": "1000"}
    with pytest.raises(UpstreamError, match=r"^/api/v1/query: "):
        client(stub.url, timeout=0.5).query("up")


def test_its_own_words_are_cut(stub: Stub) -> None:
    stub.answer('{"status":"error","error":"' + "x" * 10_000 + '"}', 422)
    with pytest.raises(UpstreamError) as raised:
        client(stub.url).query("up")
    assert len(str(raised.value)) < http_upstream.MAX_MESSAGE + 50


# --- what is asked, and read ----------------------------------------------------------------------


def test_the_question(stub: Stub) -> None:
    expression = 'up{a="é&+%"}' + " or up" * 5000
    client(stub.url + "/prefix/").query(expression, at=1.25)
    path, headers, form = stub.asked[0]
    assert path == "/prefix/api/v1/query"
    # Prometheus gives up when nobody waits any more, and sends no more than anybody reads.
    bounds = {"timeout": ["5.0"], "limit": ["100000"]}
    assert form == {"query": [expression], "time": ["1.25"]} | bounds
    assert headers["User-Agent"] == "promheal"
    assert "Authorization" not in headers


def test_the_token_is_read_each_time(stub: Stub, tmp_path: Path) -> None:
    token = tmp_path / "token"
    prometheus = client(stub.url, bearer_token_file=str(token))
    for text in ("first\n", "second"):
        token.write_text(text)
        prometheus.query("up")
    assert [headers["Authorization"] for _, headers, _ in stub.asked] == [
        "Bearer first",
        "Bearer second",
    ]


@pytest.mark.parametrize("content", [None, b"", b" \n", b"s3cret\nX-Other: 1", b"s3cr\xc3\xa9t"])
def test_a_token_that_cannot_be_sent(stub: Stub, tmp_path: Path, content: bytes | None) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
    with pytest.raises(UpstreamError, match=r"^/api/v1/query: bearer_token_file ") as raised:
        client(stub.url, bearer_token_file=str(token)).query("up")
    assert "s3cr" not in str(raised.value)
    assert stub.asked == []


def test_proxies_of_the_environment_are_not_used(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert len(client(stub.url).query("up")) == 0


def test_warnings_are_kept(stub: Stub) -> None:
    stub.answer(VECTOR[:-1] + b',"warnings":["store x is down"],"infos":["y"]}')
    found = client(stub.url).query("up")
    assert len(found) == 0
    assert found.warnings == ("store x is down",)


def test_a_native_histogram_has_no_value(stub: Stub) -> None:
    stub.answer(
        '{"status":"success","data":{"resultType":"vector","result":'
        '[{"metric":{"a":"b"},"histogram":[12.5,{"count":"1"}]}]}}'
    )
    (sample,) = client(stub.url).query("up")
    assert (sample.labels, sample.at) == ({"a": "b"}, 12.5)
    assert math.isnan(sample.value)


def test_rules_of_versions_that_ignore_the_name(stub: Stub) -> None:
    stub.answer(
        '{"status":"success","data":{"groups":[{"name":"g","file":"f","interval":15,"rules":['
        '{"type":"alerting","name":"A","query":"up == 0","duration":60,"labels":{"x":"y"},'
        '"alerts":[{"labels":{"alertname":"A"},"state":"firing"}],"health":"err",'
        '"lastError":"many","state":"firing","lastEvaluation":"2024-01-01T00:00:00.123456789Z"},'
        '{"type":"alerting","name":"B","query":"up","labels":null,"alerts":null},'
        '{"type":"recording","name":"A","query":"up"}]}]}}'
    )
    prometheus = client(stub.url)
    (rule,) = prometheus.rules("A")
    assert stub.asked[0][0] == "/api/v1/rules?type=alert&rule_name%5B%5D=A"
    assert (rule.name, rule.query, rule.labels) == ("A", "up == 0", {"x": "y"})
    assert (rule.duration, rule.interval, rule.state) == (60.0, 15.0, "firing")
    assert (rule.health, rule.last_error) == ("err", "many")
    assert rule.alerts == ({"alertname": "A"},)
    assert rule.last_evaluation == pytest.approx(1704067200.123, abs=0.001)
    assert [each.name for each in prometheus.rules()] == ["A", "B"]


def test_many_threads_ask_at_once(stub: Stub) -> None:
    prometheus = client(stub.url)
    found: list[int] = []

    def ask() -> None:
        found.extend(len(prometheus.query("up")) for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 160


# --- a real Prometheus ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    rules = """groups: [{name: g, rules: [
      {alert: A, expr: up == 0}, {alert: B, expr: up > 0, keep_firing_for: 2m},
      {record: "job:up:sum", expr: sum by (job) (up)}]}]"""
    folder = tmp_path_factory.mktemp("prometheus")
    with Exporter() as exporter:
        exporter.set("nothing", math.nan)
        exporter.set("all", math.inf)
        with start_prometheus(folder, targets={"job": [exporter.address]}, rules=rules) as program:
            prometheus = client(program.url)
            wait_until(lambda: prometheus.query("nothing"))
            yield prometheus


def test_asks_a_real_one(real: Prometheus) -> None:
    assert real.ready()
    (sample,) = real.query("vector(2)", at=1000.0)
    assert sample == Sample({}, 2.0, 1000.0)
    assert real.query("time()", at=1000.5) == (Sample({}, 1000.5, 1000.5),)
    assert [s.value for s in real.query("all")] == [math.inf]
    assert math.isnan(real.query("nothing")[0].value)
    assert real.query("nothing_there") == ()


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("up ==", '/api/v1/query: 400 invalid parameter "query": 1:6: parse error'),
        ("up[5m]", "/api/v1/query: the answer is a matrix"),
        ('"text"', "/api/v1/query: the answer is a string"),
        ('up + on(job) {__name__=~".+"}', "/api/v1/query: 422 found duplicate series"),
    ],
)  # fmt: skip
def test_passes_on_what_a_real_one_says(real: Prometheus, expression: str, text: str) -> None:
    with pytest.raises(UpstreamError) as raised:
        real.query(expression)
    assert str(raised.value).startswith(text)


def test_rules_of_a_real_one(real: Prometheus) -> None:
    wait_until(lambda: all(rule.health == "ok" for rule in real.rules()))
    assert [rule.name for rule in real.rules()] == ["A", "B"]
    (rule,) = real.rules("B")
    assert (rule.query, rule.interval) == ("up > 0", 1.0)
    assert rule.last_evaluation == pytest.approx(time.time(), abs=5)
    wait_until(lambda: real.rules("B")[0].state == "firing")
    assert real.rules("B")[0].alerts[0]["alertname"] == "B"


def test_none_is_not_ready() -> None:
    assert not client(f"http://127.0.0.1:{free_port()}").ready()


def test_recording_rules_and_how_long_an_alert_fires_on(stub: Stub) -> None:
    stub.answer(
        '{"status":"success","data":{"groups":[{"name":"g","interval":15,"rules":['
        '{"type":"alerting","name":"A","query":"up == 0","keepFiringFor":300},'
        '{"type":"recording","name":"job:up:sum","query":"sum by (job) (up)",'
        '"labels":{"from":"a"},"health":"ok","evaluationTime":0.001}]}]}}'
    )
    prometheus = client(stub.url)
    (made,) = prometheus.recording_rules()
    assert stub.asked[0][0] == "/api/v1/rules?type=record"
    assert (made.name, made.query, made.labels) == (
        "job:up:sum",
        "sum by (job) (up)",
        {"from": "a"},
    )
    assert (made.records, made.interval) == (True, 15.0)
    (alerting,) = prometheus.rules()
    assert (alerting.records, alerting.keep_firing_for) == (False, 300.0)


def test_recording_rules_of_a_real_one(real: Prometheus) -> None:
    (made,) = real.recording_rules()
    assert (made.name, made.query, made.interval) == ("job:up:sum", "sum by (job) (up)", 1.0)
    assert [rule.keep_firing_for for rule in real.rules()] == [0.0, 120.0]
