"""How is a promheal put under load, and how are figures shown?"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import servers
from bench.servers import Server

SCRIPT = Path(__file__).with_name("post.lua")
PATIENCE = 30.0
"""Seconds that an action may take to begin."""


def load(
    server: Server, name: str, size: int, concurrency: int, seconds: float, *, who: int = 0
) -> dict[str, Any]:
    """Have wrk post as fast as it can; return requests a second and latencies in ms.

    *who* tells its alerts from those of others that load at the same time.
    """
    wrk, environ = servers.tool("wrk")
    command = [
        wrk, "-t1", f"-c{concurrency}", f"-d{seconds:g}s", "-s", str(SCRIPT),
        f"{server.url}/webhook", "--", name, str(size), str(who),
    ]  # fmt: skip
    output = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    if result["refused"] or result["broken"]:
        sys.exit(f"{server.name} refused or broke {result}")
    return {**result, "rate": result["requests"] / result["seconds"]}


def to_action(server: Server, numbers: Sequence[int]) -> list[float]:
    """Milliseconds from just before a POST until the action's process says that it was started."""
    before = {}
    for number in numbers:
        time.sleep(0.2)  # one at a time: this is a latency and not a throughput
        before[number] = post(server, "BenchTimed", [f"timed-{number}"])
    deadline = time.monotonic() + PATIENCE
    while len(taken := _started(server, before)) < len(before):
        if time.monotonic() > deadline:
            sys.exit(f"{server.name}: {len(taken)} of {len(before)} actions were started")
        time.sleep(0.5)
    return taken


def _started(server: Server, before: Mapping[int, int]) -> list[float]:
    taken = []
    for run in get(server, "/api/runs?limit=500&strategy=timed")["runs"]:
        number = int(run["target"].split("timed-")[1].split('"')[0])
        if number in before:
            steps = get(server, f"/api/runs/{run['id']}")["steps"]
            taken += [
                (int(step["result"]["output"]) - before[number]) / 1e6
                for step in steps
                if step["finishedAt"]
            ]
    return taken


def to_host(server: Server, told: Path, numbers: Sequence[int]) -> list[float]:
    """As `to_action`, for an action of a service: it leaves its word in the file *told*."""
    taken = []
    for number in numbers:
        told.unlink(missing_ok=True)
        time.sleep(0.2)
        before = post(server, "BenchBoundTimed", [f"bound-{number}"])
        deadline = time.monotonic() + PATIENCE
        while not (told.exists() and told.read_text()):
            if time.monotonic() > deadline:
                sys.exit(f"{server.name}: the action of {number} was not started")
            time.sleep(0.005)
        taken.append((int(told.read_text()) - before) / 1e6)
    return taken


def spread(taken: Sequence[float]) -> dict[str, float]:
    """Return what is said of latencies in milliseconds."""
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    return {
        "count": len(taken),
        "p50_ms": round(cuts[49], 1),
        "p95_ms": round(cuts[94], 1),
        "p99_ms": round(cuts[98], 1),
        "max_ms": round(max(taken), 1),
    }


def body(name: str, instances: Sequence[str]) -> bytes:
    """Return a notification with an alert for each instance."""
    alerts = [
        {
            "status": "firing",
            "labels": {"alertname": name, "instance": instance},
            "startsAt": "2026-01-01T00:00:00Z",
        }
        for instance in instances
    ]
    return json.dumps({"version": "4", "alerts": alerts}).encode()


def post(server: Server, name: str, instances: Sequence[str]) -> int:
    """Send one notification with an alert for each instance; return when, in nanoseconds."""
    request = urllib.request.Request(
        f"{server.url}/webhook", body(name, instances), {"Content-Type": "application/json"}
    )
    before = time.time_ns()
    urllib.request.urlopen(request, timeout=30).close()
    return before


def get(server: Server, path: str) -> Any:
    with urllib.request.urlopen(server.url + path, timeout=30) as answer:
        return json.load(answer)


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    header = list(rows[0])
    cells = [header, *[[str(row[name]) for name in header] for row in rows]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    print(f"\n{title}\n")
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as a table of the docs, in Markdown."""
    if not rows:
        return
    header = list(rows[0])
    cells = [header, *[[str(row[name]) for name in header] for row in rows]]
    widths = [max(3, *(len(line[column]) for line in cells)) for column in range(len(header))]
    kinds = [isinstance(rows[0][name], int | float) for name in header]
    rule = [
        ("-" * (width - 1) + ":") if right else "-" * width
        for width, right in zip(widths, kinds, strict=True)
    ]
    print(f"\n{title}\n")
    for line in (cells[0], rule, *cells[1:]):
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, kinds, strict=True)
        ]
        print(f"| {' | '.join(padded)} |", flush=True)
