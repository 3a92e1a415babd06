"""What does a start with many firing alerts cost? `make bench ARGS=restart`.

A journal has a storm of alerts that fire, and hundreds of strategies that must be asked about each,
since none names an alert. It is started beside one in which nothing fires: until the first
notification is answered 202, until it is ready, and until everything is matched, with the slowest
answer meanwhile.
"""

from __future__ import annotations

import argparse
import re
import sqlite3
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from bench import servers
from bench.history import accept, compare, is_ready
from bench.load import show
from bench.servers import Server
from receiver.journal import open_journal

ALERTS: Final = 110_000
STRATEGIES: Final = 251
_ONE: Final = """\
  s{number}:
    match: ['instance=~"i[0-9]*{number}"']
    target: [instance]
    mode: observe
    actions: [{{action: log, message: hello}}]
"""
_FILL: Final = """
    with recursive n (n) as (select 1 union all select n + 1 from n where n < :alerts)
    insert into episode (fingerprint, starts_at, labels, annotations, generator_url, sender,
                         first_seen, last_seen)
    select printf('%016x', n), :now,
           json_object('alertname', 'A' || (n % 100), 'instance', 'i' || n), '{}', '',
           'http://alertmanager.bench', :now, :now from n where :alerts > 0
"""


def configure(folder: Path, strategies: int) -> Path:
    servers.configure(folder)
    text = "".join(_ONE.format(number=number) for number in range(strategies))
    (folder / "healing_strategies.yml").write_text(f"strategies:\n{text}")
    return folder


def fill(path: Path, alerts: int) -> None:
    open_journal(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_FILL, {"alerts": alerts, "now": time.time() - 60})


def start(folder: Path, number: int) -> dict[str, float]:
    """Return the milliseconds of a start, and of the slowest notification until all is matched."""
    before = time.perf_counter()
    with servers.promheal(folder, until="/webhook") as server:
        slowest = _accepted(server, f"first-{number}")
        accepts = time.perf_counter()
        while not is_ready(server):
            time.sleep(0.02)
        ready = time.perf_counter()
        count = 0
        while _unmatched(server):
            count += 1
            slowest = max(slowest, accept(server, f"{number}-{count}"))
            time.sleep(0.2)
        matched = time.perf_counter()
    return {
        "start to first 202": (accepts - before) * 1e3,
        "start to ready": (ready - before) * 1e3,
        "start to all matched": (matched - before) * 1e3,
        "slowest 202 meanwhile": slowest,
    }


def _accepted(server: Server, instance: str) -> float:
    while True:
        try:
            return accept(server, instance)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            time.sleep(0.02)


def _unmatched(server: Server) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as answer:
        found = re.search(
            r"^promheal_alerts_unmatched (\S+)$", answer.read().decode(), re.MULTILINE
        )
    assert found is not None
    return float(found[1])


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench restart", description=__doc__)
    parser.add_argument("--alerts", type=int, default=ALERTS, help=f"that fire ({ALERTS:,})")
    parser.add_argument("--strategies", type=int, default=STRATEGIES, help=f"({STRATEGIES})")
    parser.add_argument("--rounds", type=int, default=3, help="of starts (3)")
    options = parser.parse_args(arguments)
    rounds = []
    with tempfile.TemporaryDirectory(prefix="promheal-bench-") as name:
        for number in range(options.rounds):
            pair = []
            for alerts in (0, options.alerts):
                folder = configure(Path(name) / f"{number}-{alerts}", options.strategies)
                fill(folder / "promheal.db", alerts)
                pair.append(start(folder, number))
            rounds.append(pair)
    show(
        f"{options.alerts:,} alerts fire (long) beside none (short), "
        f"{options.strategies} strategies are asked, median of {options.rounds} starts",
        compare([one for one, _ in rounds], [two for _, two in rounds]),
    )
