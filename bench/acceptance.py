"""How many notifications are accepted, beside Flask and `webhook`? And what does rest cost?"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import peers, servers
from bench.load import load, table
from bench.servers import Server

CONCURRENCY = (1, 8, 32)
SIZES = (1, 50)
WATCHED = "BenchWatched"
"""Alerts of this name are matched and decided."""


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


def measure(rounds: int, seconds: float, idle: float, threads: int) -> dict[str, list[Any]]:
    """Return what stands in each table, by its title."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promheal-bench-")))
        bare = stack.enter_context(servers.flask(folder, "bare", threads))
        durable = stack.enter_context(servers.flask(folder, "durable", threads))
        go = stack.enter_context(peers.webhook(folder))
        ours = stack.enter_context(servers.promheal(servers.configure(folder / "promheal")))
        resting = f"At rest, {idle:g} s, all processes of a server together"
        every = [(bare, "Bench"), (durable, "Bench"), (go, "Bench"), (ours, "Bench")]
        return {
            resting: at_rest([bare, durable, go, ours], idle),
            "Accepted, median of the rounds; ratio to bare Flask": throughput(
                [*every, (ours, WATCHED)], rounds, seconds
            ),
        }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench acceptance", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of load in a round (2)")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds at rest (60)")
    parser.add_argument("--threads", type=int, default=8, help="of the Flask baselines (8)")
    parser.add_argument("--json", type=Path, help="write all figures to this file as well")
    options = parser.parse_args(arguments)
    report = measure(options.rounds, options.seconds, options.idle, options.threads)
    for title, rows in report.items():
        table(title, rows)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
