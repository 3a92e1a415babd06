"""A small web service that can be made sick, and that a restart heals.

    python -m receiver.demo.service PORT [HOST]

`GET /` answers, `GET /metrics` tells Prometheus, `POST /sick?how=latency` (or `memory`, `cpu`)
makes it sick, and `POST /restart` ends it, for whoever starts it again. Only this machine can reach
it, unless HOST is another address: that of a network where everybody may do all this. Standard
library only, so that it starts at once.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

SLOW: Final = 0.8
"""Seconds that each answer takes when it is slow."""
LEAK: Final = 200_000_000
"""Bytes that it holds once it has leaked all that it will: sick, but no danger to the machine."""

_CHUNK: Final = 20_000_000  # bytes of one leak
_CHUNK_EVERY: Final = 0.1  # seconds
_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds in seconds, some of those that the Python client has by default."""


_POSTS: Final = "POST /sick?how=latency, memory or cpu; POST /restart\n"


class Statistics:
    """What it has answered, in Prometheus' terms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes = Counter({200: 0})
        self._buckets = [0] * len(_BUCKETS)
        self._sum = 0.0  # seconds
        self._count = 0

    def answered(self, code: int, seconds: float) -> None:
        with self._lock:
            self._codes[code] += 1
            self._sum += seconds
            self._count += 1
            for index, bound in enumerate(_BUCKETS):
                self._buckets[index] += seconds <= bound

    def exposition(self) -> str:
        """Return the text format, version 0.0.4."""
        name = "http_request_duration_seconds"
        with self._lock:
            lines = [
                "# TYPE process_cpu_seconds_total counter",
                f"process_cpu_seconds_total {time.process_time()}",
                "# TYPE process_resident_memory_bytes gauge",
                f"process_resident_memory_bytes {_resident()}",
                "# TYPE http_requests_total counter",
                *(
                    f'http_requests_total{{code="{code}"}} {number}'
                    for code, number in sorted(self._codes.items())
                ),
                f"# TYPE {name} histogram",
                *(
                    f'{name}_bucket{{le="{bound}"}} {number}'
                    for bound, number in zip(_BUCKETS, self._buckets, strict=True)
                ),
                f'{name}_bucket{{le="+Inf"}} {self._count}',
                f"{name}_sum {self._sum}",
                f"{name}_count {self._count}",
            ]
        return "\n".join([*lines, ""])


class FaultInjector:
    """What is wrong with it. Lost at a restart, like most of what goes wrong in a process."""

    def __init__(self) -> None:
        self.delay = 0.0
        """Seconds that each answer waits."""
        self._held: list[bytes] = []

    def begin(self, how: str) -> bool:
        """Begin to fail; False when no fault has that name."""
        match how:
            case "latency":
                self.delay = SLOW
            case "memory":
                threading.Thread(target=self._leak, daemon=True).start()
            case "cpu":
                threading.Thread(target=_spin, daemon=True).start()
            case _:
                return False
        return True

    def _leak(self) -> None:
        while len(self._held) * _CHUNK < LEAK:
            self._held.append(b"x" * _CHUNK)  # not zeros: those the kernel would only promise
            time.sleep(_CHUNK_EVERY)


class Handler(BaseHTTPRequestHandler):
    statistics: Statistics
    faults: FaultInjector

    def do_GET(self) -> None:
        match self.path:
            case "/":
                began = time.perf_counter()
                time.sleep(self.faults.delay)
                self._answer(HTTPStatus.OK, "The shop is open.\n")
                self.statistics.answered(HTTPStatus.OK, time.perf_counter() - began)
            case "/metrics":
                self._answer(HTTPStatus.OK, self.statistics.exposition())
            case _:
                self._answer(HTTPStatus.NOT_FOUND, "There is / and /metrics.\n")

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/restart":
            self._answer(HTTPStatus.ACCEPTED, "It will be back soon.\n")
            # From another thread, since it waits for the one that serves; ours is not waited for.
            threading.Thread(target=self.server.shutdown).start()
            return
        how = parse_qs(parts.query).get("how", [""])[0]
        if parts.path == "/sick" and self.faults.begin(how):
            self._answer(HTTPStatus.OK, f"It is sick now: {how}.\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, _POSTS)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing: a line for each request would bury what matters."""

    def _answer(self, status: HTTPStatus, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(port: int, host: str = "127.0.0.1") -> None:
    """Serve until a signal, or a request, ends the process."""
    Handler.statistics, Handler.faults = Statistics(), FaultInjector()
    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    server.serve_forever()


def _resident() -> int:
    """Return the bytes of RAM that this process holds: proc_pid_statm(5), the second field."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _spin() -> None:
    """Keep a core busy, but not the interpreter: it must still be able to answer Prometheus."""
    while True:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:3])
