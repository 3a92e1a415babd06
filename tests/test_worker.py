from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

from receiver.errors import ConfigError
from receiver.web.server.arbiter import WebServer
from tests.chain import wait_until
from tests.figures import Record
from tests.requests_in_bytes import CHUNKED, GET, SMUGGLING, chunked, post

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[1]
SLOW_CLIENTS = 900
SERVER = """
import json, logging, os, ssl, sys, threading, time
sys.path.insert(0, sys.argv[1])
from receiver.web.server import answering, connection, reading, worker
from receiver.web.server.arbiter import WebServer, tell_of_the_last_worker

options, overrides = json.loads(sys.argv[2]), json.loads(sys.argv[3])
sys.executable = options.pop("interpreter", sys.executable)
for name, value in overrides.items():
    for module in (answering, connection, reading, worker):
        if hasattr(module, name):
            setattr(module, name, value)
worker.CompleteRequestWorker.deadline = worker.DEADLINE
logging.basicConfig(level=logging.INFO)
tell_of_the_last_worker()


class App:
    def __init__(self):
        self.hups = []
        self.refused = []

    def on_hup(self):
        self.hups.append(threading.current_thread().name)
        time.sleep(0.1)
        if len(self.hups) == 1:
            raise RuntimeError("the first reload fails")

    def on_refused(self, status):
        self.refused.append(status)

    def take(self, request, reply):
        if request.path not in ("/later", "/refused"):
            return False
        body = request.body.read()
        size = int(request.content_type or 0)
        said = json.dumps([request.method, request.content_encoding, request.address]).encode()
        answer = said + body + bytes(size)
        status = 202 if request.path == "/later" else 503
        threading.Timer(0.05, reply, [status, answer]).start()
        return True

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        headers = []
        if path == "/echo":
            body = environ["wsgi.input"].read()
        elif path == "/unread":
            body = b"unread"
        elif path == "/sleep":
            time.sleep(1)
            body = b"slept"
        elif path == "/huge":
            body = bytes(64 << 20)
        elif path == "/large":
            body = b"x" * (1 << 20)
        elif path == "/stream":
            start_response("200 OK", [])
            return iter([b"a", b"", b"b", b"c"])
        elif path == "/fail":
            raise RuntimeError("on purpose")
        elif path == "/unavailable":
            start_response("503 Service Unavailable", [("Content-Length", "2")])
            return [b"no"]
        elif path == "/exit":
            raise SystemExit(1)
        elif path == "/late":
            start_response("200 OK", [("Content-Length", "10")])
            return self.late()
        else:
            seen = {"pid": os.getpid(), "hups": self.hups, "refused": self.refused}
            body = json.dumps(seen).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def late(self):
        yield b"12345"
        raise RuntimeError("on purpose, in the middle")


if "certfile" in options:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(options["certfile"], options["keyfile"])
    options["ssl_context"] = lambda _config, _default: served
if pause := options.pop("pause_after_fork", 0):
    options["post_fork"] = lambda _arbiter, _worker: time.sleep(pause)
WebServer(App, options).run()
"""


class Process:
    """A running server: gunicorn's arbiter and its worker."""

    def __init__(self, directory: Path, *, overrides: dict[str, float], **options: object) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port: int = free.getsockname()[1]
        self.log = directory / f"{self.port}.log"
        arguments = json.dumps({"bind": f"127.0.0.1:{self.port}", "threads": 8, **options})
        with self.log.open("wb") as log:
            self.arbiter = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(ROOT), arguments, json.dumps(overrides)],
                stdout=log,
                stderr=log,
            )

    def ready(self) -> None:
        limit = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                assert self.arbiter.poll() is None, self.log.read_text()
                assert time.monotonic() < limit, self.log.read_text()
                time.sleep(0.05)
            else:
                return

    def worker(self) -> int:
        assert self.arbiter.pid
        children = Path(f"/proc/{self.arbiter.pid}/task/{self.arbiter.pid}/children")
        # The kernel may leave one out while another ends.
        found: str = wait_until(children.read_text, what="a worker")
        return int(found.split(maxsplit=1)[0])

    def stop(self) -> int:
        self.arbiter.terminate()
        try:
            return self.arbiter.wait(20)
        finally:
            self.arbiter.kill()


@contextmanager
def running(directory: Path, **options: object) -> Iterator[Process]:
    overrides = options.pop("overrides", {})
    assert isinstance(overrides, dict)
    process = Process(directory, overrides=overrides, **options)
    try:
        process.ready()
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="module", autouse=True)
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    overrides = {"DEADLINE": 3, "MAX_UNSENT": 100 << 20}
    with running(tmp_path_factory.mktemp("server"), overrides=overrides) as process:
        yield process


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One with small limits."""
    overrides = {"DEADLINE": 1, "SEND_DEADLINE": 1, "MAX_BUFFERED": 1 << 20, "_TICK": 0.2}
    with running(
        tmp_path_factory.mktemp("tight"),
        overrides=overrides,
        threads=4,
        worker_connections=50,
        keepalive=1,
    ) as process:
        yield process


class Client:
    """A raw connection."""

    def __init__(self, port: int, *, timeout: float = 15) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.file = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self) -> tuple[int, bytes]:
        """Return the status and the body of the next answer; 0 when the connection ended."""
        line = self.file.readline()
        if not line:
            return 0, b""
        headers = {}
        while (header := self.file.readline().strip()) != b"":
            name, _, value = header.partition(b":")
            headers[name.lower()] = value.strip()
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(self.file.readline(), 16):
                body += self.file.read(size)
                self.file.readline()
            self.file.readline()
        else:
            body = self.file.read(int(headers.get(b"content-length", 0)))
        return int(line.split()[1]), body

    def ended(self) -> bool:
        """Wait for the end."""
        with suppress(ConnectionResetError):
            return self.file.read() == b""
        return True


def cpu_seconds(*pids: int) -> float:
    """All threads' time on a processor, to the nanosecond."""
    files = (file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


# Requests that the application takes, to answer them later.


def test_what_is_taken_is_answered_later_and_no_thread_waits_for_it(server: Process) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(200)]  # of 8 threads
        begin = time.monotonic()
        for number, client in enumerate(clients):
            client.send(post(b"%d" % number, "Content-Encoding: br", path="/later"))
        for number, client in enumerate(clients):
            assert client.answer() == (202, b'["POST", "br", "127.0.0.1"]%d' % number)
        assert time.monotonic() - begin < 200 * 0.05 / 8


def test_what_is_taken_is_answered_in_order_on_its_connection(server: Process) -> None:
    with Client(server.port) as client:
        client.send(post(b"1", path="/later") + post(b"2") + post(b"3", path="/later") + GET)
        assert client.answer() == (202, b'["POST", "", "127.0.0.1"]1')
        assert client.answer() == (200, b"2")
        assert client.answer() == (202, b'["POST", "", "127.0.0.1"]3')
        assert client.answer()[0] == 200
        client.send(post(b"4", "Connection: close", path="/later"))
        assert client.answer() == (202, b'["POST", "", "127.0.0.1"]4')
        assert client.ended()


@pytest.mark.parametrize("path", ["/refused", "/unavailable"])
def test_a_503_ends_its_connection_so_that_the_next_may_reach_another(
    server: Process, path: str
) -> None:
    with Client(server.port) as client:
        client.send(GET)
        assert client.answer()[0] == 200
        client.send(post(b"", path=path))
        assert client.answer()[0] == 503
        assert client.ended()


def test_an_answer_that_the_client_takes_slowly_is_whole(server: Process) -> None:
    size = 16 << 20
    with Client(server.port) as client, Client(server.port) as other:
        client.send(post(b"", f"Content-Type: {size}", path="/later") + GET)
        time.sleep(0.3)
        other.send(GET)
        assert other.answer()[0] == 200, "whoever told the answer did not wait"
        status, body = client.answer()
        assert (status, len(body)) == (202, size + len(b'["POST", "", "127.0.0.1"]'))
        assert client.answer()[0] == 200


def test_a_client_that_has_gone_before_its_answer_is_no_trouble(server: Process) -> None:
    for _ in range(20):
        with Client(server.port) as client:
            client.send(post(b"", path="/later"))
    time.sleep(0.2)
    with Client(server.port) as client:
        client.send(GET)
        assert client.answer()[0] == 200


def test_the_application_is_told_what_was_refused_without_it(tight: Process) -> None:
    with Client(tight.port) as client:
        client.send(post(b"", "Content-Length: 0", "Content-Length: 1"))
        assert client.answer()[0] == 400
    with Client(tight.port) as client:
        client.send(GET)
        assert 400 in json.loads(client.answer()[1])["refused"]


def wake_ups(*pids: int) -> int:
    """How often their threads were given a processor."""
    files = (file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(file.read_text().split()[2]) for file in files)


# Slow clients.


def dribble(socks: list[socket.socket], piece: bytes, stop: threading.Event) -> None:
    while not stop.wait(1):
        for sock in socks:
            with suppress(OSError):
                sock.send(piece, socket.MSG_DONTWAIT)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(b"POST /echo HTTP/1.1\r\nHost: promheal\r\n", b"X", id="headers"),
        pytest.param(post(b"", "Content-Length: 4000", length=False), b"x", id="body"),
    ],
)
def test_900_slow_clients_hold_up_nobody(
    server: Process,
    start: bytes,
    piece: bytes,
    capsys: pytest.CaptureFixture[str],
    record_property: Record,
) -> None:
    with ExitStack() as stack:
        socks = []
        for _ in range(SLOW_CLIENTS):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            sock.sendall(start)
            socks.append(sock)
        began = time.monotonic()
        stop = threading.Event()
        sender = threading.Thread(target=dribble, args=(socks, piece, stop))
        sender.start()
        stack.callback(sender.join)
        stack.callback(stop.set)
        worker, waits = server.worker(), []
        before = cpu_seconds(worker)
        while time.monotonic() < began + 3:
            asked = time.monotonic()
            with Client(server.port) as client:
                client.send(post(b"legitimate"))
                assert client.answer() == (200, b"legitimate")
            waits.append(time.monotonic() - asked)
            time.sleep(0.2)
        share = (cpu_seconds(worker) - before) / (time.monotonic() - began)
        p99 = statistics.quantiles(waits, n=100, method="inclusive")[98]
        with capsys.disabled():
            sys.stdout.write(
                f"\n{SLOW_CLIENTS} slow clients: p50 {statistics.median(waits) * 1e3:.0f} ms, "
                f"p99 {p99 * 1e3:.0f} ms, worker {share:.1%} of a processor\n"
            )
        record_property("slow clients", SLOW_CLIENTS)
        record_property("p99 beside them, ms", p99 * 1e3)
        assert p99 < 0.5
        assert share < 0.3
        for sock in socks:
            sock.settimeout(max(0.1, began + 6 - time.monotonic()))
            assert re.match(rb"HTTP/1.1 408 |$", sock.recv(1000))


def unread(stack: ExitStack, port: int, path: str) -> socket.socket:
    """Return the socket of a client that asks, and reads nothing of the answer."""
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    sock.send(GET.replace(b" / ", f" {path} ".encode()))
    return sock


def pipeline(socks: list[socket.socket], stop: threading.Event) -> None:
    while not stop.wait(0.01):
        for sock in socks:
            with suppress(OSError):
                sock.send(GET * 200)


def waits_of_others(port: int, seconds: float) -> list[float]:
    """How long legitimate requests take in that time, one after the other, in seconds."""
    waits, began = [], time.monotonic()
    while time.monotonic() < began + seconds:
        asked = time.monotonic()
        with Client(port) as client:
            client.send(post(b"legitimate"))
            assert client.answer() == (200, b"legitimate")
        waits.append(time.monotonic() - asked)
        time.sleep(0.05)
    return waits


def test_60_clients_that_pipeline_and_never_read_hold_up_nobody(
    server: Process, capsys: pytest.CaptureFixture[str], record_property: Record
) -> None:
    with ExitStack() as stack:
        socks = [unread(stack, server.port, "/") for _ in range(60)]
        stop = threading.Event()
        sender = threading.Thread(target=pipeline, args=(socks, stop))
        sender.start()
        stack.callback(sender.join)
        stack.callback(stop.set)
        time.sleep(0.5)
        waits = waits_of_others(server.port, 4)
    p50, p99 = statistics.median(waits), statistics.quantiles(waits, n=100, method="inclusive")[98]
    with capsys.disabled():
        sys.stdout.write(
            f"\n60 clients that do not read: p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms\n"
        )
    record_property("p99 beside 60 that never read, ms", p99 * 1e3)
    assert p50 < 0.1
    assert p99 < 0.5


def peak(pid: int) -> float:
    """The most memory that a process has had, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def begun(sock: socket.socket) -> bool:
    """Whether some of an answer is there, or its end."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def sip(socks: list[socket.socket], stop: threading.Event) -> None:
    while not stop.wait(1):
        for sock in socks:
            with suppress(OSError):
                sock.recv(512)


def test_900_slow_readers_hold_up_nobody_and_cost_bounded_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: Record
) -> None:
    """Each wants a MiB, and 64 are kept for all of them: for one that is new the slowest goes."""
    with running(tmp_path) as process, ExitStack() as stack:
        worker = process.worker()
        with Client(process.port) as client:
            client.send(GET)
            assert client.answer()[0] == 200
        before = peak(worker)
        socks = [unread(stack, process.port, "/large") for _ in range(SLOW_CLIENTS)]
        stop = threading.Event()
        reader = threading.Thread(target=sip, args=(socks, stop))
        reader.start()
        stack.callback(reader.join)
        stack.callback(stop.set)
        wait_until(lambda: all(map(begun, socks)), within=30, what="all are being answered")
        waits = waits_of_others(process.port, 2)
        grown = peak(worker) - before
        wait_until(lambda: "too much was unread" in process.log.read_text(), within=10)
    p99 = statistics.quantiles(waits, n=100, method="inclusive")[98]
    with capsys.disabled():
        sys.stdout.write(f"\n900 slow readers: p99 {p99 * 1e3:.0f} ms, {grown:.0f} MiB more\n")
    record_property("slow readers", SLOW_CLIENTS)
    record_property("p99 beside slow readers, ms", p99 * 1e3)
    record_property("MiB for slow readers", grown)
    assert p99 < 0.5
    assert grown < 200


def test_a_client_that_does_not_read_is_dropped_in_time(tight: Process) -> None:
    with ExitStack() as stack:
        sock = unread(stack, tight.port, "/huge")
        time.sleep(3)
        sock.settimeout(5)
        assert 0 < len(read(sock)) < 16 << 20


def test_when_too_much_is_unread_the_slowest_is_dropped(server: Process) -> None:
    with ExitStack() as stack:
        slowest = unread(stack, server.port, "/huge")
        time.sleep(0.3)
        slow = unread(stack, server.port, "/huge")
        time.sleep(0.3)
        for sock in (slowest, slow):
            sock.settimeout(5)  # long before the deadline
        assert 0 < len(read(slowest)) < 16 << 20
        assert len(read(slow)) > 64 << 20


def test_a_client_that_goes_amid_its_answer_is_no_trouble(server: Process) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            sock = unread(stack, server.port, "/huge")
            time.sleep(0.2)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()  # with a reset
        client = stack.enter_context(Client(server.port))
        client.send(GET)
        assert client.answer()[0] == 200
    assert "internal error" not in server.log.read_text()


def read(sock: socket.socket) -> bytes:
    received = bytearray()
    with suppress(ConnectionResetError, TimeoutError):
        while piece := sock.recv(1 << 20):
            received += piece
    return bytes(received)


def test_the_deadline_answers_408_but_not_to_silence(tight: Process) -> None:
    with Client(tight.port) as silent, Client(tight.port) as slow:
        slow.send(GET[:-1])
        status, body = slow.answer()
        assert (status, json.loads(body)["error"]["code"]) == (408, "timeout")
        assert slow.ended()
        assert silent.ended()


def test_the_deadline_starts_anew_with_each_request(tight: Process) -> None:
    with Client(tight.port) as client:
        for _ in range(2):
            client.send(GET[:10])
            time.sleep(0.4)
            client.send(GET[10:])
            assert client.answer()[0] == 200
        client.send(GET[:10])
        assert client.answer()[0] == 408


def test_an_idle_connection_is_closed_after_keepalive(tight: Process) -> None:
    with Client(tight.port) as client:
        client.send(GET)
        assert client.answer()[0] == 200
        began = time.monotonic()
        assert client.ended()
        assert 0.8 < time.monotonic() - began < 5


def test_what_waits_for_a_thread_is_served_however_long_it_waits(tight: Process) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(tight.port)) for _ in range(12)]
        for client in clients:
            client.send(GET)
            assert client.answer()[0] == 200
        for client in clients:  # three rounds of one second, with a deadline of one second
            client.send(post(b"", path="/sleep"))
        assert [client.answer()[0] for client in clients] == [200] * 12


def test_a_client_that_does_not_read_loses_its_thread(tight: Process) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(Client(tight.port))
            client.send(b"GET /huge HTTP/1.1\r\nHost: promheal\r\n\r\n")
        time.sleep(0.3)
        client = stack.enter_context(Client(tight.port))
        client.send(GET)
        assert client.answer()[0] == 200


def test_more_connections_than_allowed_wait_for_a_place(tight: Process) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(tight.port)) for _ in range(70)]
        clients[-1].send(GET)
        assert clients[-1].answer()[0] == 200


def test_large_bodies_are_turned_away_when_too_many_arrive(tight: Process) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(tight.port)) for _ in range(3)]
        for client in clients:
            client.send(post(bytes(500_000), "Content-Length: 600000", length=False))
        small = stack.enter_context(Client(tight.port))
        small.send(GET)
        assert small.answer()[0] == 200
        assert max(client.answer()[0] for client in clients) == 503


# What fast clients see.


def test_a_request_may_be_cut_anywhere(server: Process) -> None:
    plain = post(b"\r\n\r\n0123")
    pieces = post(chunked(b"\r\n", b"0\r\n\r\n"), CHUNKED, length=False)
    with Client(server.port) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request, body in ((plain, b"\r\n\r\n0123"), (pieces, b"\r\n0\r\n\r\n")):
            for cut in range(1, len(request)):
                client.send(request[:cut])
                time.sleep(0.002)
                client.send(request[cut:])
                assert client.answer() == (200, body)


def test_keep_alive_and_pipelining(server: Process) -> None:
    with Client(server.port) as client:
        for number in range(300):
            client.send(post(b"%d" % number))
            assert client.answer() == (200, b"%d" % number)
        client.send(post(b"first") + post(chunked(b"second"), CHUNKED, length=False) + GET[:20])
        assert client.answer() == (200, b"first")
        assert client.answer() == (200, b"second")
        client.send(GET[20:] + post(b"not read", path="/unread") + post(b"last"))
        assert client.answer()[0] == 200
        assert client.answer() == (200, b"unread")
        assert client.answer() == (200, b"last")
        client.send(post(b"a", "Connection: close") + post(b"b"))
        assert client.answer() == (200, b"a")
        assert client.ended()


def test_http_1_0_and_streams(server: Process) -> None:
    with Client(server.port) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.answer()[0] == 200
        assert client.ended()
    with Client(server.port) as client:
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert client.answer()[0] == 200
        client.send(b"GET /stream HTTP/1.1\r\nHost: promheal\r\n\r\n")
        assert client.answer() == (200, b"abc")
        client.send(b"HEAD / HTTP/1.1\r\nHost: promheal\r\nConnection: close\r\n\r\n")
        assert client.file.read().endswith(b"\r\n\r\n")


def test_the_end_of_the_client_is_no_end_of_its_answer(server: Process) -> None:
    with Client(server.port) as client:
        client.send(post(b"half closed", path="/sleep"))
        client.sock.shutdown(socket.SHUT_WR)
        assert client.answer() == (200, b"slept")


@pytest.mark.parametrize("path", ["/fail", "/exit"])
def test_an_application_that_fails_is_500_and_no_thread_lost(server: Process, path: str) -> None:
    for _ in range(10):
        with Client(server.port) as client:
            client.send(post(b"", path=path))
            assert client.answer()[0] == 500
            assert client.ended()


def test_an_application_that_fails_in_the_middle_ends_the_connection(server: Process) -> None:
    with Client(server.port) as client:
        client.send(b"GET /late HTTP/1.1\r\nHost: promheal\r\n\r\n")
        assert client.answer() == (200, b"12345")
        assert client.ended()


def curl(server: Process, *arguments: str, body: bytes = b"") -> tuple[int, str, str]:
    """Return the exit code, what came, and what curl says about it."""
    done = subprocess.run(
        ["curl", "-sSv", "--max-time", "20", *arguments, f"http://127.0.0.1:{server.port}/echo"],
        input=body,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1")


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@needs_curl
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["-H", "Transfer-Encoding: chunked", "-H", "Expect:"], id="chunked"),
        pytest.param(["-H", "Expect:"], id="declared"),
        pytest.param([], id="expect"),
    ],
)
def test_curl_reads_why_its_body_is_refused(server: Process, arguments: list[str]) -> None:
    code, out, err = curl(
        server, "-X", "POST", *arguments, "--data-binary", "@-", body=bytes(20 << 20)
    )
    assert "HTTP/1.1 413" in err
    assert json.loads(out)["error"]["code"] == "too_large"
    assert code == 0, err


@needs_curl
def test_curl_is_told_to_continue(server: Process) -> None:
    code, out, err = curl(
        server, "-H", "Expect: 100-continue", "--data-binary", "@-", body=b"y" * (3 << 20)
    )
    assert code == 0, err
    assert err.count("HTTP/1.1 100 Continue") == 1
    assert "HTTP/1.1 200 OK" in err
    assert out == "y" * (3 << 20)


def test_a_sender_that_never_looks_still_reads_its_413(server: Process) -> None:
    with Client(server.port) as client:
        client.send(post(bytes(20 << 20)))
        assert client.answer()[0] == 413
        assert client.ended()


def test_8_mib_are_taken(server: Process) -> None:
    body = os.urandom(8 << 20)
    with Client(server.port) as client:
        client.send(post(body))
        assert client.answer() == (200, body)
        pieces = [body[at : at + 32768] for at in range(0, len(body), 32768)]
        client.send(post(chunked(*pieces), CHUNKED, length=False))
        assert client.answer() == (200, body)


@pytest.mark.parametrize("name", SMUGGLING)
def test_what_two_could_read_differently_is_refused(server: Process, name: str) -> None:
    with Client(server.port, timeout=3) as client:
        client.send(SMUGGLING[name])
        status, body = client.answer()
        assert status in {400, 414, 417, 431, 501}
        assert set(json.loads(body)["error"]) == {"code", "message"}
        client.sock.shutdown(socket.SHUT_WR)
        assert client.ended()


# The process.


def test_an_idle_server_takes_no_processor(server: Process) -> None:
    pids = server.arbiter.pid, server.worker()
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(Client(server.port))
            client.send(GET)
            assert client.answer()[0] == 200
        before = wake_ups(*pids)
        time.sleep(6)
        # Not its time on a processor: some machines make a wake-up cost what ten others do not.
        assert wake_ups(*pids) - before < 12


def test_threads_are_started_when_they_are_needed(tmp_path: Path) -> None:
    with running(tmp_path, threads=12) as process, ExitStack() as stack:
        tasks = Path(f"/proc/{process.worker()}/task")
        with Client(process.port) as client:
            client.send(GET)
            assert client.answer()[0] == 200
        before = len(list(tasks.iterdir()))
        clients = [stack.enter_context(Client(process.port)) for _ in range(13)]
        for client in clients:
            client.send(b"GET /sleep HTTP/1.1\r\nHost: promheal\r\n\r\n")
        assert {client.answer() for client in clients} == {(200, b"slept")}
        assert before < len(list(tasks.iterdir())) <= before + 8  # four were there


def test_sigterm_lets_the_request_in_flight_end(tmp_path: Path) -> None:
    with running(tmp_path, overrides={"STOP_LINGER": 0.5}) as process, ExitStack() as stack:
        idle = stack.enter_context(Client(process.port))
        client = stack.enter_context(Client(process.port))
        idle.send(GET)
        assert idle.answer()[0] == 200
        client.send(b"GET /sleep HTTP/1.1\r\nHost: promheal\r\n\r\n")
        time.sleep(0.3)
        process.arbiter.send_signal(signal.SIGTERM)
        assert client.answer() == (200, b"slept")
        assert client.ended()
        assert idle.ended()
        assert process.arbiter.wait(10) == 0
        assert "Traceback" not in process.log.read_text()


def test_sigterm_ends_a_worker_that_has_just_been_forked(tmp_path: Path) -> None:
    with running(tmp_path, pause_after_fork=0.5) as process:
        process.worker()
        process.arbiter.terminate()
        assert process.arbiter.wait(10) == 0


def test_sighup_reloads_in_place(tmp_path: Path) -> None:
    with running(tmp_path) as process, Client(process.port) as client:
        worker = process.worker()
        for wanted in (1, 2, 3):
            process.arbiter.send_signal(signal.SIGHUP)
            limit = time.monotonic() + 5
            while True:
                client.send(GET)
                seen = json.loads(client.answer()[1])
                if len(seen["hups"]) >= wanted:
                    break
                assert time.monotonic() < limit
                time.sleep(0.05)
        assert (seen["pid"], seen["hups"]) == (worker, ["reload"] * 3)
        assert process.worker() == worker
        process.arbiter.send_signal(signal.SIGTTIN)
        client.send(GET)
        assert client.answer()[0] == 200
        assert process.log.read_text().count("Booting worker") == 1
        assert "the first reload fails" in process.log.read_text()


def test_tls_has_the_deadline_from_the_handshake_on(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=promheal",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(cafile=str(cert))
    files = {"certfile": str(cert), "keyfile": str(key)}
    with (
        running(tmp_path, overrides={"DEADLINE": 1, "_TICK": 0.2}, **files) as process,
        ExitStack() as stack,
    ):
        silent = [stack.enter_context(Client(process.port)) for _ in range(50)]
        for client in silent[:25]:
            client.send(b"\x16\x03\x01\x02\x00")  # the start of a ClientHello
        wrong = stack.enter_context(Client(process.port))
        wrong.send(GET)
        slow = stack.enter_context(Client(process.port))
        slow.sock = stack.enter_context(context.wrap_socket(slow.sock, server_hostname="127.0.0.1"))
        slow.send(GET[:5])
        body = os.urandom(3 << 20)
        with Client(process.port) as client:
            client.sock = stack.enter_context(
                context.wrap_socket(client.sock, server_hostname="127.0.0.1")
            )
            client.file = stack.enter_context(client.sock.makefile("rb"))
            for _ in range(2):
                client.send(post(body) + GET)
                assert client.answer() == (200, body)
                assert client.answer()[0] == 200
        assert slow.sock.recv(12) == b"HTTP/1.1 408"
        assert wrong.ended()
        assert all(client.ended() for client in silent)


# The options.


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"workers": 2}, "one worker process"),
        ({"worker_class": "sync"}, "worker_class"),
        ({"http_protocols": "h2,h1"}, "http_protocols"),
        ({"threads": "many"}, "threads"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        WebServer(lambda: lambda _environ, _start: [], options)


def test_metrics_in_many_processes_are_refused() -> None:
    with pytest.raises(ConfigError, match="PROMETHEUS_MULTIPROC_DIR"):
        WebServer(lambda: lambda _environ, _start: [], {}, multiproc_dir="/tmp/metrics")


def test_the_options_are_gunicorns_and_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    cfg = WebServer(lambda: lambda _environ, _start: [], {"threads": 12, "workers": 1}).cfg
    assert (cfg.workers, cfg.threads, cfg.keepalive) == (1, 12, 75)
    assert cfg.control_socket_disable
    assert cfg.worker_class.__name__ == "CompleteRequestWorker"
