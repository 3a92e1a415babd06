"""Measure SQLite beside Postgres: acceptance, latency to the action, work, and what rest costs.

Everything is taken in turns, round by round, so that the machine's mood is shared. All processes,
Postgres and what loads them share this machine: with many, it is the machine that is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import servers, sites
from bench.load import load, post, show, spread, to_action, to_host
from bench.sites import PARTS, Side, Site
from receiver import process

CONNECTIONS = (3, 24)
"""Of the load, shared out between the receivers."""
WORKERS = (1, 2, 4)
TRANSACTIONS = """
    select xact_commit + xact_rollback from pg_stat_database
    where datname = current_database()"""
SETTLE = 3.0
"""Seconds until what a start brings up is done."""
PATIENCE = 120.0
"""Seconds that work may take."""


def acceptance(site: Site, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Notifications of one alert, which no strategy wants, until the answer 202."""
    rows = []
    with site.sqlite() as sqlite, site.postgres(receivers=3, workers=0) as three:
        one = Side("Postgres, 1 receiver", three.receivers[:1], database=three.database)
        sides = (sqlite, one, Side("Postgres, 3 receivers", three.receivers, (), three.database))
        for connections in CONNECTIONS:
            results: list[list[dict[str, float]]] = [[] for _ in sides]
            for _ in range(rounds):
                for side, taken in zip(sides, results, strict=True):
                    taken.append(_accepted(side, connections, seconds))
            for side, taken in zip(sides, results, strict=True):
                rows.append(
                    {
                        "side": side.name,
                        "connections": connections,
                        "posts_per_second": round(_median(taken, "rate")),
                        "p50_ms": round(_median(taken, "p50"), 1),
                        "p99_ms": round(_median(taken, "p99"), 1),
                        **_cores(taken),
                        **_ratio([r["rate"] for r in taken], [r["rate"] for r in results[0]]),
                    }
                )
    return rows


def _accepted(side: Side, connections: int, seconds: float) -> dict[str, float]:
    """Load all receivers at once: rates add up, of the p99 the worst counts."""
    count = len(side.receivers)
    before, start = side.cpu(), time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        each = list(
            pool.map(
                lambda one: load(one[1], "Bench", 1, connections // count, seconds, who=one[0]),
                enumerate(side.receivers),
            )
        )
    used = _used(side, before, time.monotonic() - start)
    return {
        "rate": sum(one["rate"] for one in each),
        "p50": statistics.median(one["p50"] for one in each),
        "p99": max(one["p99"] for one in each),
        **used,
    }


def latency(site: Site, rounds: int, count: int) -> list[dict[str, Any]]:
    """One notification at a time on an idle machine, until the action's process has started."""
    taken: dict[str, list[float]] = {}
    with site.sqlite() as sqlite, site.postgres() as pg, site.worker(servers.HOST):
        for turn in range(rounds):
            numbers = range(turn * count, (turn + 1) * count)
            for name, found in (
                ("an action's process alone", _alone(count)),
                ("SQLite", to_action(sqlite.receivers[0], numbers)),
                (pg.name, to_action(pg.receivers[0], numbers)),
                (
                    f"{pg.name}, bound to a host",
                    to_host(pg.receivers[0], site.folder / "clock.told", numbers),
                ),
            ):
                taken.setdefault(name, []).extend(found)
    first = statistics.median(taken["SQLite"])
    return [
        {"side": name, **spread(every), "ratio_p50": round(statistics.median(every) / first, 2)}
        for name, every in taken.items()
    ]


def _alone(count: int) -> list[float]:
    """Milliseconds until a process with its supervisor runs: no promheal can be faster."""
    taken = []
    for _ in range(count):
        time.sleep(0.2)
        before = time.time_ns()
        ran = process.run(["/bin/date", "+%s%N"], timeout=10)
        taken.append((int(ran.output) - before) / 1e6)
    return taken


def work(site: Site, rounds: int, count: int) -> list[dict[str, Any]]:
    """Runs of two steps that do next to nothing, one on each of *count* targets, sent at once."""
    results: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for workers in (None, *WORKERS):
            new = site.anew()  # what fires already would be looked at for each that begins
            with new.sqlite() if workers is None else new.postgres(workers=workers) as side:
                results.setdefault(side.name, []).append(_worked(new, side, count))
    first = [one["rate"] for one in results["SQLite"]]
    return [
        {
            "side": name,
            "runs_per_second": round(_median(taken, "rate"), 1),
            "lock_percent": round(100 * _median(taken, "locked")),
            **{f"{part}_ms": round(_median(taken, f"{part}_ms"), 2) for part in PARTS},
            **_cores(taken),
            **_ratio([one["rate"] for one in taken], first),
        }
        for name, taken in results.items()
    ]


def _worked(site: Site, side: Side, count: int) -> dict[str, float]:
    before, start, posted = side.cpu(), time.monotonic(), time.time()
    post(side.receivers[0], "BenchCheap", [f"cheap-{each}" for each in range(count)])
    ended, until = 0, 0.0
    with site.watch(side) as watch:
        while ended < count:
            if time.monotonic() - start > PATIENCE:
                sys.exit(f"{side.name}: {ended} of {count} runs have ended")
            time.sleep(0.2)
            ended, until = site.ask(
                side,
                "select count(*), max(finished_at) from run where state = 'finished'",
            )
    passed = time.monotonic() - start
    used = _used(side, before, passed)
    site.settle(side)
    each = {f"{part}_ms": 1000 * used[part] * passed / count for part in PARTS}
    locked = 0.0 if watch is None else watch.share
    return {"rate": count / (until - posted), "locked": locked, **used, **each}


def rest(site: Site, seconds: float) -> list[dict[str, Any]]:
    """What nothing costs: queries, wake-ups, and CPU of each process."""
    with site.sqlite() as sqlite, site.postgres() as pg:
        assert pg.database is not None
        parts = {
            "SQLite, serve": sqlite.receivers[0],
            "Postgres, receiver": pg.receivers[0],
            "Postgres, worker": pg.workers[0],
            "Postgres, server": pg.database,
        }
        time.sleep(SETTLE)
        before = {name: (one.cpu(), one.wakeups()) for name, one in parts.items()}
        start, transactions = time.monotonic(), site.ask(pg, TRANSACTIONS)[0]
        time.sleep(seconds)
        passed = time.monotonic() - start
        # Less ours, the first of the two questions: each is counted when it has been answered.
        transactions = site.ask(pg, TRANSACTIONS)[0] - transactions - 1
        rows = []
        for name, one in parts.items():
            cpu, wakeups = before[name]
            rows.append(
                {
                    "process": name,
                    "cpu_percent": round(100 * (one.cpu() - cpu) / passed, 3),
                    "wakeups_per_second": round((one.wakeups() - wakeups) / passed, 2),
                    "pss_mib": round(one.memory()[1], 1),
                    "transactions_per_second": "",
                }
            )
        rows[-1]["transactions_per_second"] = round(transactions / passed, 2)
        return rows


def _used(side: Side, before: Mapping[str, float], passed: float) -> dict[str, float]:
    """Cores that each part has used since *before*."""
    return {part: (used - before[part]) / passed for part, used in side.cpu().items()}


def _median(taken: Sequence[Mapping[str, float]], name: str) -> float:
    return statistics.median(one[name] for one in taken)


def _cores(taken: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Cores in use, of those that there are."""
    return {f"cores_{part}": round(_median(taken, part), 2) for part in PARTS}


def _ratio(ours: Sequence[float], first: Sequence[float]) -> dict[str, Any]:
    """To SQLite, round by round."""
    ratios = [one / other for one, other in zip(ours, first, strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench scale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement (3)")
    parser.add_argument("--seconds", type=int, default=3, help="of load in a round (3)")
    parser.add_argument("--actions", type=int, default=30, help="timed in a round (30)")
    parser.add_argument("--runs", type=int, default=300, help="worked off in a round (300)")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds at rest (30)")
    parser.add_argument("--json", type=Path, help="write all figures to this file as well")
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="promheal-bench-") as folder,
        sites.site(Path(folder) / "site") as site,
    ):
        rounds = options.rounds
        report["rest"] = rest(site, options.idle)
        show(f"At rest, {options.idle:g} s", report["rest"])
        report["latency"] = latency(site, rounds, options.actions)
        show("From POST to the action's process running, one at a time", report["latency"])
        report["work"] = work(site, rounds, options.runs)
        show(f"{options.runs} runs of two steps, each on its own target", report["work"])
        # Last, for what it leaves open is matched anew at each start.
        report["acceptance"] = acceptance(site, rounds, options.seconds)
        show("Accepted, median of the rounds; ratio to SQLite", report["acceptance"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
