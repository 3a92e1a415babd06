"""Loads, attacks and questions for a worker class with promheal's application behind it."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import trustme

from bench import servers
from bench.load import load
from bench.servers import Server
from bench.worker_classes import UNAVAILABLE
from tests.requests_in_bytes import GET, SMUGGLING

INSTALLED: Final = Path(__file__).parent.parent / ".tools/worker-classes"
LOADS: Final = tuple((alerts, clients) for alerts in (1, 50) for clients in (1, 8, 32))
LEADS: Final = {"headers": 2.5, "body": 2.5, "tls": 2.5, "unread": 1.0}
"""Seconds of an attack before anything is measured. Deadlines pass while it is."""
PATIENCE: Final = 5.0
"""Seconds that a legitimate client waits, and is counted with if there was no answer."""
RECOVERED: Final = 100.0
"""Milliseconds in which a server answers that an attack no longer holds up."""
_REFUSALS: Final = frozenset({400, 408, 411, 413, 414, 417, 431, 501, 505})
_STATUS: Final = re.compile(rb"^HTTP/1\.[01] ([1-5][0-9][0-9]) ", re.MULTILINE)
_BODY: Final = json.dumps(
    {
        "version": "4",
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "Bench", "instance": "legitimate"},
                "startsAt": "2026-01-01T00:00:00Z",
            }
        ],
    }
).encode()
_ANY: Final = ssl.create_default_context()
_ANY.check_hostname, _ANY.verify_mode = False, ssl.CERT_NONE


class Running(NamedTuple):
    """A worker class, once with plain HTTP and once with TLS."""

    plain: Server
    tls: Server
    certificate: Path

    def port(self, kind: str = "") -> int:
        return int((self.tls if kind == "tls" else self.plain).url.rpartition(":")[2])


Figures = dict[str, float]


def certify(folder: Path, authority: trustme.CA) -> None:
    """Write a new certificate of localhost into *folder*."""
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.private_key_pem.write_to_path(folder / "server.key")
    made.cert_chain_pems[0].write_to_path(folder / "server.crt")


@contextmanager
def running(name: str, folder: Path, authority: trustme.CA) -> Iterator[Running]:
    plain, tls = (servers.configure(folder / f"{name}-{side}") for side in ("plain", "tls"))
    certify(tls, authority)
    web = tls / "web.yml"
    web.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    with _serving(name, plain, None) as one, _serving(name, tls, web) as other:
        yield Running(one, other, tls)


@contextmanager
def _serving(name: str, folder: Path, web: Path | None) -> Iterator[Server]:
    port = servers.free_port()
    paths = [str(INSTALLED), os.environ.get("PYTHONPATH", "")]
    tls = [] if web is None else ["--tls", str(web)]
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker_classes", name, str(folder), str(port), *tls],
            stdout=file, stderr=file, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while asked(port, tls=bool(tls)) > PATIENCE * 1e3:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{name} did not come up:\n{log.read_text()}")
            time.sleep(0.1)
        yield Server(name, f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def asked(port: int, *, tls: bool) -> float:
    """Return the milliseconds of a notification on a new connection; inf if it was not accepted."""
    head = (
        f"POST /webhook HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(_BODY)}\r\n\r\n"
    )
    before = time.perf_counter()
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
            sock = _ANY.wrap_socket(plain) if tls else plain
            sock.settimeout(PATIENCE)
            sock.sendall(head.encode() + _BODY)
            status = sock.recv(12)
            if tls:
                sock.close()
    except OSError:
        return float("inf")
    return (time.perf_counter() - before) * 1e3 if status == b"HTTP/1.1 202" else float("inf")


def accept(running: Running, alerts: int, clients: int, seconds: float, number: int) -> Figures:
    """Load with notifications; *number* tells the alerts of a round from those of others."""
    what = f"{alerts} alert{'s' * (alerts > 1)}, c={clients}"
    result = load(running.plain, "Bench", alerts, clients, seconds, who=number)
    return {
        f"{what}: requests/s": result["rate"],
        f"{what}: p50 ms": result["p50"],
        f"{what}: p99 ms": result["p99"],
    }


def beside(running: Running, kind: str, number: int, seconds: float) -> Figures:
    """Measure a legitimate client beside *number* that attack."""
    title = {
        "": "undisturbed", "headers": f"beside {number} slow in headers",
        "body": f"beside {number} slow in the body", "tls": f"beside {number} slow in TLS",
        "unread": f"beside {number} that never read",
    }[kind]  # fmt: skip
    server = running.tls if kind == "tls" else running.plain
    taken = []
    with _attacking(kind, running.port(kind), number):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            taken.append(min(asked(running.port(kind), tls=kind == "tls"), PATIENCE * 1e3))
            time.sleep(0.02)
        _, pss = server.memory()
    cuts = statistics.quantiles(taken, n=100, method="inclusive") if len(taken) > 1 else taken * 99
    found = {f"{title}: p50 ms": cuts[49], f"{title}: p99 ms": cuts[98], f"{title}: PSS MiB": pss}
    ended = time.monotonic()
    while asked(running.port(kind), tls=kind == "tls") > RECOVERED:
        time.sleep(0.02)
    if kind == "unread":
        found["s until it has recovered from that"] = time.monotonic() - ended
    return found


@contextmanager
def _attacking(kind: str, port: int, number: int) -> Iterator[None]:
    if not kind:
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.attackers", kind, str(port), str(number)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(LEADS[kind])
        yield
    finally:
        process.communicate(timeout=60)


def smuggled(port: int, request: bytes) -> str:
    """Return whether a request was `refused`, `closed`, `left open` or `handed over`."""
    with socket.create_connection(("127.0.0.1", port), 2) as sock:
        said, ended = b"", False
        try:
            sock.sendall(request)
            while data := sock.recv(65_536):
                said += data
            ended = True
        except TimeoutError:
            pass
        except OSError:
            ended = True
    statuses = [int(found) for found in _STATUS.findall(said)]
    if statuses and (statuses[0] not in _REFUSALS or len(statuses) > 1):
        return "handed over"
    if not ended:
        return "left open"
    return "refused" if statuses else "closed"


def ends_its_connection(port: int) -> str:
    """Ask for a 503 on a connection that could stay; return whether the server ends it."""
    with socket.create_connection(("127.0.0.1", port), 3) as sock:
        sock.sendall(GET.replace(b"GET / ", f"GET {UNAVAILABLE} ".encode()))
        said = b""
        try:
            while data := sock.recv(65_536):
                said += data
        except TimeoutError:
            return "says so" if b"\r\nconnection: close" in said.lower() else "no"
    return "yes" if _STATUS.findall(said) == [b"503"] else "no"


def reloads(running: Running, authority: trustme.CA) -> str:
    """Replace the certificate, and see whether a new connection gets it from the same process."""
    pids = running.tls.pids()
    before = ssl.get_server_certificate(("127.0.0.1", running.port("tls")), timeout=5)
    certify(running.certificate, authority)
    time.sleep(2.5)
    after = ssl.get_server_certificate(("127.0.0.1", running.port("tls")), timeout=5)
    return "yes" if after != before and running.tls.pids() == pids else "no"


def examine(one: Running, authority: trustme.CA) -> tuple[list[str], dict[str, list[str]]]:
    """Return the cells of what is or is not so, and which ambiguous requests were not refused."""
    with ThreadPoolExecutor(16) as threads:
        became = list(threads.map(lambda case: smuggled(one.port(), case), SMUGGLING.values()))
    kinds: dict[str, list[str]] = {"refused": [], "closed": [], "left open": [], "handed over": []}
    for name, kind in zip(SMUGGLING, became, strict=True):
        kinds[kind].append(name)
    cells = [str(len(names)) for names in kinds.values()]
    del kinds["refused"]
    return [*cells, ends_its_connection(one.port()), reloads(one, authority)], kinds
