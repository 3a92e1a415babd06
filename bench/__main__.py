"""Measure promheal beside bare Flask: throughput, latency to the action, memory and CPU at rest."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import servers
from bench.servers import Server

SCRIPT = Path(__file__).with_name("post.lua")
CONCURRENCY = (1, 8, 32)
SIZES = (1, 50)
WATCHED = "BenchWatched"
"""Alerts of this name are matched and decided."""


def load(server: Server, name: str, size: int, concurrency: int, seconds: float) -> dict[str, Any]:
    """Have wrk post as fast as it can; return requests a second and latencies in ms."""
    wrk, environ = servers.tool("wrk")
    command = [
        wrk, "-t1", f"-c{concurrency}", f"-d{seconds:g}s", "-s", str(SCRIPT),
        f"{server.url}/webhook", "--", name, str(size),
    ]  # fmt: skip
    output = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    if result["refused"] or result["broken"]:
        sys.exit(f"{server.name} refused or broke {result}")
    return {**result, "rate": result["requests"] / result["seconds"]}


def throughput(every: Sequence[tuple[Server, str]], rounds: int, seconds: float) -> list[Any]:
    """Take turns, so that the machine's mood is shared; ratios are round by round to the first."""
    rows = []
    for size in SIZES:
        # A second of 50 matched alerts a POST leaves decisions for minutes.
        taking = [one for one in every if size == 1 or one[1] != WATCHED]
        for concurrency in CONCURRENCY:
            runs: list[list[dict[str, Any]]] = [[] for _ in taking]
            for _ in range(rounds):
                for (server, name), results in zip(taking, runs, strict=True):
                    results.append(load(server, name, size, concurrency, seconds))
                    if name == WATCHED:
                        server.settle()  # or the next would be measured beside its decisions
            for (server, name), results in zip(taking, runs, strict=True):
                ratios = [
                    ours["rate"] / first["rate"]
                    for ours, first in zip(results, runs[0], strict=True)
                ]
                rate = statistics.median(result["rate"] for result in results)
                watched = ", matched" if name == WATCHED else ""
                rows.append(
                    {
                        "server": server.name + watched,
                        "alerts_per_post": size,
                        "concurrency": concurrency,
                        "posts_per_second": round(rate),
                        "alerts_per_second": round(rate * size),
                        "p50_ms": round(statistics.median(r["p50"] for r in results), 1),
                        "p99_ms": round(statistics.median(r["p99"] for r in results), 1),
                        "ratio": round(statistics.median(ratios), 2),
                        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
                    }
                )
    return rows


def to_action(server: Server, count: int) -> dict[str, float]:
    """Milliseconds from just before a POST until the action's process says that it was started."""
    before = [_post(server, number) for number in range(count)]
    time.sleep(1)
    taken = []
    for run in _get(server, "/api/runs?limit=500&strategy=timed")["runs"]:
        steps = _get(server, f"/api/runs/{run['id']}")["steps"]
        if steps:
            number = int(run["target"].split("timed-")[1].split('"')[0])
            taken.append((int(steps[0]["result"]["output"]) - before[number]) / 1e6)
    if len(taken) != count:
        sys.exit(f"{len(taken)} of {count} actions were started")
    taken.sort()
    return {
        "count": count,
        "p50_ms": round(statistics.median(taken), 1),
        "p99_ms": round(taken[int(count * 0.99) - 1], 1),
        "max_ms": round(taken[-1], 1),
    }


def _post(server: Server, number: int) -> int:
    body = {
        "version": "4",
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "BenchTimed", "instance": f"timed-{number}"},
                "startsAt": "2026-01-01T00:00:00Z",
            }
        ],
    }
    request = urllib.request.Request(
        f"{server.url}/webhook", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    time.sleep(0.2)  # one at a time: this is a latency and not a throughput
    before = time.time_ns()
    urllib.request.urlopen(request, timeout=10).close()
    return before


def _get(server: Server, path: str) -> Any:
    with urllib.request.urlopen(server.url + path, timeout=10) as answer:
        return json.load(answer)


def at_rest(every: Sequence[Server], seconds: float) -> list[Any]:
    """Memory of all processes together, and what they use of a core while nothing happens."""
    before = [server.cpu() for server in every]
    start = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - start
    rows = []
    for server, used in zip(every, before, strict=True):
        rss, pss = server.memory()
        rows.append(
            {
                "server": server.name,
                "rss_mib": round(rss, 1),
                "pss_mib": round(pss, 1),
                "cpu_percent": round(100 * (server.cpu() - used) / passed, 3),
            }
        )
    return rows


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    header = list(rows[0])
    cells = [header, *[[str(row[name]) for name in header] for row in rows]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    print(f"\n{title}\n")
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of load in a round (2)")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds at rest (60)")
    parser.add_argument("--threads", type=int, default=8, help="of the Flask baselines (8)")
    parser.add_argument("--json", type=Path, help="write all figures to this file as well")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promheal-bench-")))
        bare = stack.enter_context(servers.flask(folder, "bare", options.threads))
        durable = stack.enter_context(servers.flask(folder, "durable", options.threads))
        ours = stack.enter_context(servers.promheal(folder))
        report = {"at_rest": at_rest([bare, durable, ours], options.idle)}
        show(f"At rest, {options.idle:g} s, all processes of a server together", report["at_rest"])
        report["to_action"] = [to_action(ours, 100)]
        show("From POST to the action's process running", report["to_action"])
        report["throughput"] = throughput(
            [(bare, "Bench"), (durable, "Bench"), (ours, "Bench"), (ours, WATCHED)],
            options.rounds,
            options.seconds,
        )
        show("Accepted, median of the rounds; ratio to bare Flask", report["throughput"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


main()
