"""A real Redis below TLS, and servers that are none: what an answer may be, and how long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from receiver.errors import ActionError
from receiver.services.resp import Login, asked
from tests.brokers import free_ports, redis_server


@pytest.fixture
def server() -> Iterator[Callable[[bytes], str]]:
    """Starts what answers each connection with the same bytes, and then stays; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    answer = b""
    ended = threading.Event()

    def serve() -> None:
        open_ones = []
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            open_ones.append(connection)
            connection.sendall(answer)
        for connection in open_ones:
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()

    def start(says: bytes) -> str:
        nonlocal answer
        answer = says
        return f"redis://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    ended.set()
    thread.join()
    listener.close()


def ask(url: str, *words: str, timeout: float = 5.0, login: Login | None = None) -> Any:
    with asked(url, login or Login(), time.monotonic() + timeout) as redis:
        return redis(*words or ("PING",))


@pytest.mark.parametrize(
    ("bytes_", "answer"),
    [
        (b"+PONG\r\n", b"PONG"),
        (b":-42\r\n", -42),
        (b"$0\r\n\r\n", b""),
        (b"$5\r\na\r\nb\n\r\n", b"a\r\nb\n"),
        (b"$-1\r\n", None),
        (b"*0\r\n", []),
        (b"*-1\r\n", None),
        (b"*2\r\n$1\r\n0\r\n*2\r\n:1\r\n$-1\r\n", [b"0", [1, None]]),
    ],
)
def test_an_answer(server: Callable[[bytes], str], bytes_: bytes, answer: Any) -> None:
    assert ask(server(bytes_)) == answer


@pytest.mark.parametrize(
    ("bytes_", "problem"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "does not speak Redis' protocol: .* begin with b'H'"),
        (b"\r\n", r"begin with b'\\r'"),
        (b":x\r\n", "b'x' is no number"),
        (b"$9999999999\r\n", "an answer of more than 33554432 bytes"),
        (b"*9999999999\r\n", "an answer of more than 1000000 items"),
        (b"*1\r\n" * 100, r"begin with b'\*'"),
        (b"+" + b"x" * 70_000, "a line of it has no end"),
        (b"-ERR what\r\n", "refused PING: ERR what"),
        (b"-MOVED 1 h:1\r\n", "Redis Cluster is not supported"),
    ],
)
def test_no_answer(server: Callable[[bytes], str], bytes_: bytes, problem: str) -> None:
    with pytest.raises(ActionError, match=problem):
        ask(server(bytes_))


@pytest.mark.parametrize("bytes_", [b"", b"+PO", b"$5\r\nab", b"*3\r\n:1\r\n"])
def test_a_pause_ends_in_time(server: Callable[[bytes], str], bytes_: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(ActionError, match=r"was not done within 0\.3 s"):
        ask(server(bytes_), timeout=0.3)
    assert time.monotonic() - began < 3.0


def test_a_password_never_gets_into_an_error(
    server: Callable[[bytes], str], tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("s3cret")
    url = server(b"-ERR unknown command 'AUTH', with args beginning with: 's3cret'\r\n")
    with pytest.raises(ActionError, match="refused AUTH: ERR") as error:
        ask(url, login=Login(password_file=str(tmp_path / "password")))
    assert "s3cret" not in str(error.value)


def test_tls_is_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (port,) = free_ports(1)
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    for name in ("key", "cert", "ca-cert"):
        file = {"ca-cert": "ca.pem"}.get(name, f"{name}.pem")
        options += [f"--tls-{name}-file", str(tmp_path / file)]
    with redis_server(tmp_path, *options):
        url = f"rediss://localhost:{port}/3"
        assert ask(url, login=Login(ca_file=str(tmp_path / "ca.pem"))) == b"PONG"
        with pytest.raises(ActionError, match=r"cannot be reached: .*CERTIFICATE_VERIFY_FAILED"):
            ask(url)
        with pytest.raises(ActionError, match=r"ca_file .*No such file"):
            ask(url, login=Login(ca_file=str(tmp_path / "none")))
        with pytest.raises(ActionError, match="refused SELECT: ERR DB index is out of range"):
            ask(f"rediss://localhost:{port}/99", login=Login(ca_file=str(tmp_path / "ca.pem")))
