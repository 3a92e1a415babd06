"""A service that can be ill in each way that a shipped strategy heals, run by a real gunicorn.

Its settings are read at the start of each worker, as a reload (HUP) makes new ones:

- `rate_limit`: work that it takes on in a second; each piece burns some CPU.
- `cache.enabled`: whether it answers at once, or makes its visitors wait.
- `llm.provider`: whom it asks; one of them is down.

What it keeps in memory until it is restarted is in a file that its workers fill when they are told
to leak. `/metrics` has what Prometheus needs, with the label that names the service.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import yaml

NAME = os.environ["PATIENT_NAME"]
SETTINGS = yaml.safe_load(Path(os.environ["PATIENT_SETTINGS"]).read_text())
PIECE = 0.001
"""Seconds of CPU that one piece of work takes, about."""

held: list[bytes] = []


def burn() -> None:
    """Do as much work as is taken on: a load that only a limit, or an end, makes smaller."""
    while True:
        limit = SETTINGS.get("rate_limit", 0)
        began = time.perf_counter()
        for _ in range(int(limit / 10)):
            until = time.thread_time() + PIECE
            while time.thread_time() < until:
                hashlib.pbkdf2_hmac("sha256", b"", b"", 300)
        time.sleep(max(0.005, 0.1 - (time.perf_counter() - began)))


if os.environ["PATIENT_WORKS"] == "1":
    threading.Thread(target=burn, daemon=True).start()


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    status, body = "200 OK", "fine\n"
    match environ["PATH_INFO"]:
        case "/metrics":
            body = (
                "# TYPE process_cpu_seconds_total counter\n"
                f'process_cpu_seconds_total{{service="{NAME}"}} {time.process_time()}\n'
                "# TYPE process_resident_memory_bytes gauge\n"
                f'process_resident_memory_bytes{{service="{NAME}"}} {resident()}\n'
            )
        case "/leak":
            size = int(parse_qs(environ["QUERY_STRING"])["bytes"][0])
            held.append(os.urandom(1) * size)
        case "/slow":
            if not SETTINGS.get("cache", {}).get("enabled"):
                time.sleep(0.4)
        case "/ask":
            if SETTINGS.get("llm", {}).get("provider") == "broken":
                status, body = "502 Bad Gateway", "the provider is down\n"
        case _:
            pass
    raw = body.encode()
    start_response(status, [("Content-Length", str(len(raw))), ("Content-Type", "text/plain")])
    return [raw]
