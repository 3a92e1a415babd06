"""What does a long history cost? `make bench ARGS=history`: beside a short one, in one run.

A journal in a file is filled with runs, with the episodes, decisions, steps and observations that
belong to them; a tenth of the runs are on one target. The short one fills each list that is shown,
and no more. Both end a day ago: no window of the guards holds any of it. `--storage postgres`
copies both into databases of a PostgreSQL of its own.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import psycopg

from bench import servers
from bench.load import get, post, show
from bench.servers import Server
from receiver.journal import open_journal
from receiver.journal.copying import copy
from tests.postgres import Postgres, postgres

RUNS: Final = 100_000
TARGETS: Final = 1_000
SPAN: Final = 89 * 86_400.0
"""Seconds over which the history stretches: what is kept by default, less a day."""
DAY: Final = 86_400.0
SHORT: Final = 500
"""Runs of the journal beside it: more than any list shows."""
PATHS: Final = ("/metrics", "/", "/api/status", "/api/breakers", "/api/runs", "/api/decisions")
LATEST: Final = "/api/runs?limit=5&strategy=timed"
WATCHED: Final = "BenchWatched"
"""Alerts of this name are matched and decided."""
PATIENCE: Final = 600.0
"""Seconds after which a start has failed."""

_FILL: Final = (
    """
    insert into episode (fingerprint, starts_at, ends_at, labels, annotations, generator_url,
                         sender, first_seen, last_seen)
    select printf('%016x', target), at, at + 60,
           json_object('alertname', 'BenchTimed', 'instance', 'timed-' || target), '{}', '',
           'http://alertmanager.bench', at, at + 60 from n
    """,
    """
    insert into run (strategy, target, state, outcome, doubt, reason, episode, created_at,
                     notified_at, acted_at, verify_from, finished_at, config_hash, plan)
    select :strategy, 'instance="timed-' || target || '"', 'finished',
           case n % 10 when 0 then 'ineffective' when 1 then 'inconclusive' when 2 then 'failed'
                       when 3 then 'cancelled' else 'healed' end,
           case n % 10 when 1 then 'unknown' end, 'the condition is false again', n, at, at,
           case n % 10 when 3 then null else at + 1 end, at + 2, at + 60, 'bench', null from n
    """,
    """
    insert into step (run, phase, position, action, state, started_at, finished_at, result)
    select n, 'run', position, 'command', 'done', at + 1, at + 2,
           '{"output":"a line of what a command printed"}'
    from n join (select 0 as position union all select 1)
    """,
    """
    insert into observation (run, at, verdict, value, detail)
    select n, at + 10 * look, 'firing', 0.9, 'still 0.9 > 0.8'
    from n join (select 1 as look union all select 2)
    """,
    """
    insert into decision (strategy, target, verdict, reason, detail, answers, run, episode, at,
                          last_at, times)
    select :strategy, 'instance="timed-' || target || '"', 'allow', '', '', :answers, n, n, at,
           at, 1 from n
    """,
    """
    insert into breaker_event (breaker, event, at, run, started_at, thresholds, state)
    select 'strategy:' || :strategy, 'failure', at, n, at, '{}', 'CLOSED' from n where n % 10 = 2
    """,
    """
    insert into audit (at, by, action, object, reason, detail)
    select at, 'bench', 'approve', 'run ' || n, 'it may', '' from n where n % 50 = 0
    """,
    """
    insert into quarantine (at, sender, problem, raw)
    select at, 'http://alertmanager.bench', 'no labels', '{}' from n where n % 50 = 0
    """,
)
_NUMBERS: Final = """
    with recursive counted (n) as (select 1 union all select n + 1 from counted where n < :runs),
    n as materialized (
        select n, iif(n % 10 = 4, 0, n % :targets) as target,
               :end - (:runs - n) * (:span / :runs) as at
        from counted)
"""
_ANSWERS: Final = json.dumps(
    [
        {"guard": f"guard{number}", "verdict": "allow", "reason": "", "until": None, "detail": ""}
        for number in range(15)
    ]
)


def fill(path: Path, runs: int, *, now: float, strategy: str = "timed") -> None:
    """Make a journal at *path* that has so many finished runs of one strategy."""
    open_journal(f"sqlite:///{path}").close()
    values = {
        "runs": runs, "targets": TARGETS, "end": now - DAY, "span": SPAN, "strategy": strategy,
        "answers": _ANSWERS,
    }  # fmt: skip
    with closing(sqlite3.connect(path)) as connection, connection:
        for sql in _FILL:
            before, insert, rest = sql.partition("insert")
            connection.execute(f"{before}{_NUMBERS}{insert}{rest}", values)


def to_action(server: Server, number: int) -> float:
    """Return the milliseconds from before a POST until the action's process says it was started."""
    newest = max((run["id"] for run in get(server, LATEST)["runs"]), default=0)
    before = post(server, "BenchTimed", [f"timed-{number}"])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.2)
        for run in get(server, LATEST)["runs"]:
            steps = get(server, f"/api/runs/{run['id']}")["steps"] if run["id"] > newest else []
            if steps and steps[0]["finishedAt"]:
                return (int(steps[0]["result"]["output"]) - before) / 1e6
    sys.exit(f"{server.name}: the action of {number} was not started")


def ask(server: Server, path: str) -> float:
    """Return the milliseconds of one request."""
    before = time.perf_counter()
    urllib.request.urlopen(f"{server.url}{path}", timeout=PATIENCE).read()
    return (time.perf_counter() - before) * 1e3


def accept(server: Server, instance: str) -> float:
    """Return the milliseconds of a notification that nothing selects."""
    before = time.time_ns()
    post(server, "Bench", [instance])
    return (time.time_ns() - before) / 1e6


def accept_while_deciding(server: Server, name: str) -> float:
    """Return the slowest of 20 notifications, while 50 alerts are decided."""
    post(server, WATCHED, [f"{name}-{number}" for number in range(50)])
    slowest = max(accept(server, f"{name}-{number}") for number in range(20))
    server.settle()
    return slowest


def measure(server: Server, number: int) -> dict[str, float]:
    """Return the median of each in one round, in milliseconds."""
    asked: dict[str, Callable[[int], float]] = {
        "acceptance": lambda n: accept(server, f"{number}-{n}"),
        "slowest acceptance while deciding": lambda n: accept_while_deciding(
            server, f"{number}-{n}"
        ),
        **{f"GET {path}": lambda _, path=path: ask(server, path) for path in PATHS},  # type: ignore[misc]
    }
    found = {what: statistics.median(map(one, range(5))) for what, one in asked.items()}
    # The target with a tenth of all runs, and others, each once: a heal is followed by a grace.
    first = [0] if number == 0 else []
    numbers = [*first, *range(1 + 5 * number, 6 + 5 * number)]
    taken = [to_action(server, one) for one in numbers]
    return {"POST to action": statistics.median(taken), **found}


def copied(database: Postgres, path: Path) -> str:
    """Copy a journal in a file into a new database; return its URL."""
    url = database.create()
    with (
        closing(open_journal(f"sqlite:///{path}")) as source,
        closing(open_journal(url)) as target,
    ):
        copy(source, target, lambda *_: None)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")
    return url


def start(folder: Path, name: str, storage: str | None = None) -> dict[str, float]:
    """Return the milliseconds from the start until alerts are accepted, and until it is ready."""
    before = time.perf_counter()
    with servers.promheal(folder, name=name, until="/webhook", storage=storage) as server:
        accepts = time.perf_counter()
        while not is_ready(server):
            time.sleep(0.02)
        ready = time.perf_counter()
    return {
        "start to accepting": (accepts - before) * 1e3,
        "start to ready": (ready - before) * 1e3,
    }


def is_ready(server: Server) -> bool:
    try:
        urllib.request.urlopen(f"{server.url}/-/ready", timeout=PATIENCE).close()
    except urllib.error.HTTPError:
        return False
    return True


def compare(
    short: Sequence[Mapping[str, float]], long: Sequence[Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Return a row for each figure: medians of the rounds, and ratios round by round."""
    rows = []
    for what in short[0]:
        ratios = [after[what] / before[what] for before, after in zip(short, long, strict=True)]
        rows.append(
            {
                "what": what,
                "short_ms": round(statistics.median(one[what] for one in short), 1),
                "long_ms": round(statistics.median(one[what] for one in long), 1),
                "ratio": round(statistics.median(ratios), 2),
                "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
            }
        )
    return rows


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench history", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"in the journal ({RUNS:,})")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (5)")
    parser.add_argument("--storage", choices=("sqlite", "postgres"), default="sqlite")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promheal-bench-")))
        short, long = (servers.configure(folder / name) for name in ("short", "long"))
        before = time.perf_counter()
        fill(short / "promheal.db", SHORT, now=time.time())
        fill(long / "promheal.db", options.runs, now=time.time())
        size = (long / "promheal.db").stat().st_size >> 20
        urls: list[str | None] = [None, None]
        if options.storage == "postgres":
            database = stack.enter_context(postgres(durable=True))
            urls = [copied(database, side / "promheal.db") for side in (short, long)]
        took = time.perf_counter() - before
        print(f"{options.runs:,} runs, {size:,} MiB, written in {took:.0f} s", flush=True)
        sides = list(zip((short, long), urls, strict=True))
        starts = [[start(side, "starting", url) for side, url in sides]
                  for _ in range(options.rounds)]  # fmt: skip
        running = [stack.enter_context(servers.promheal(side, storage=url)) for side, url in sides]
        rounds = [
            [measure(server, number) for server in running] for number in range(options.rounds)
        ]
    rows = [
        *compare([one for one, _ in rounds], [other for _, other in rounds]),
        *compare([one for one, _ in starts], [other for _, other in starts]),
    ]
    show(
        f"{options.runs:,} runs beside {SHORT} in {options.storage}, "
        f"median of {options.rounds} rounds",
        rows,
    )
