"""Bodies that no Alertmanager sends, to a real server: each is refused, and none is its fault."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.server import PATIENCE, Promheal, alert, notification
from tests.figures import Record, scaled
from tests.fuzzing import damaged
from tests.requests_in_bytes import CHUNKED

MIB: Final = 1 << 20
HEAD: Final = "POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
GOOD: Final = json.dumps(notification(alert("Good"))).encode()


def plain(body: bytes, *headers: str) -> Iterator[bytes]:
    lines = "".join(f"{line}\r\n" for line in (*headers, f"Content-Length: {len(body)}"))
    yield f"{HEAD}{lines}\r\n".encode() + body


def chunks(mebibytes: int) -> Iterator[bytes]:
    yield f"{HEAD}{CHUNKED}\r\n\r\n".encode()
    for _ in range(mebibytes):
        yield b"100000\r\n" + b" " * MIB + b"\r\n"
    yield b"0\r\n\r\n"


BODIES: Final[dict[str, tuple[Callable[[], Iterator[bytes]], set[int]]]] = {
    "9 MiB, declared": (lambda: plain(b" " * (9 * MIB)), {413}),
    "100 MiB in chunks": (lambda: chunks(100), {413}),
    "gzip": (lambda: plain(b"\x1f\x8b\x08\0", "Content-Encoding: gzip"), {415}),
    "NaN": (lambda: plain(b'{"version": "4", "alerts": NaN}'), {400}),
    "a lone surrogate": (lambda: plain(b'{"version": "4", "alerts": "\\ud800"}'), {400}),
    "100,000 levels": (lambda: plain(b"[" * 100_000 + b"]" * 100_000), {400, 413}),
    "byte order mark": (lambda: plain(b"\xef\xbb\xbf" + GOOD), {202, 400}),
    "a key twice": (lambda: plain(b'{"version": "4", "version": "3", "alerts": 1}'), {400}),
    "an array": (lambda: plain(b"[]"), {400}),
    "empty": (lambda: plain(b""), {400}),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Promheal]:
    with Promheal(tmp_path_factory.mktemp("bodies"), {}) as running:
        yield running


def answered(server: Promheal, pieces: Iterator[bytes]) -> int:
    """The status of the answer; what is refused early need not be sent to its end."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        with suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                sock.sendall(piece)
        return int(sock.recv(4_096).split()[1])


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_none_is_refused_and_no_fault_of_ours(
    server: Promheal, name: str, record_property: Record
) -> None:
    pieces, expected = BODIES[name]
    status = answered(server, pieces())
    record_property("answers of 5xx", int(status >= 500))
    assert status in expected
    assert server.deliver(GOOD).status == 202, "and the next one is served"
    assert "Traceback" not in server.tail()


# ── the same, at random ──

MUTANTS: Final = scaled(200, 20_000)
RECORDED: Final = Path(__file__).resolve().parent.parent / "payloads"


def test_recorded_notifications_that_were_damaged_are_no_fault_of_ours(
    tmp_path: Path, record_property: Record
) -> None:
    """Seeded, so that what fails can be had again."""
    seeds = [path.read_bytes() for path in sorted(RECORDED.glob("[!I]*.json"))]
    bodies = [damaged(seeds, number) for number in range(MUTANTS)]
    with Promheal(tmp_path, {}) as server:

        def send(share: int) -> list[int]:
            return [server.deliver(body).status for body in bodies[share::4]]

        start = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            statuses = [status for share in pool.map(send, range(4)) for status in share]
        record_property("payloads", len(statuses))
        record_property("answers of 5xx", sum(status >= 500 for status in statuses))
        assert {202, 400} <= set(statuses) <= {202, 400, 413}, time.monotonic() - start
        assert "Traceback" not in server.log.read_text()
