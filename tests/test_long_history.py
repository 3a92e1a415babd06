"""What SQLite reads, however much lies in the journal; PostgreSQL is in test_postgres_plans.py."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.history import DAY, fill
from receiver.journal import Admission, Journal, Transaction, Want, open_journal
from receiver.journal.queries import queries
from receiver.policy.decide import decide
from receiver.policy.run import Outcome, State
from receiver.policy.target import Key
from tests.factories import NOW, alert, situation

SHORT, LONG = 500, 20_000
STRATEGY = "timed"
KEY = Key(STRATEGY, 'instance="timed-0"')
"""A tenth of all runs are on this target."""

GROWS = {
    "run",
    "decision",
    "episode",
    "step",
    "observation",
    "quarantine",
    "breaker_event",
    "audit",
}
FEW = {
    "run_in_hand", "run_unfinished", "run_holder", "run_waiting",
    "episode_firing", "episode_open", "episode_disputed",
}  # fmt: skip
"""Indexes of what is open or in hand, which is as little as it is."""
PAGES = {"runs", "runs_finished", "decisions", "audits", "episodes"}
"""They take rows in the order of their ids, and nearly each that they read."""
ALL = {
    "known_targets",  # when a person pauses targets
    "breaker_events",  # nobody asks for those of all breakers while promheal runs
}


def plan(connection: sqlite3.Connection, query: str) -> list[str]:
    values: Any = [None] * 8 if "ROWS" in query else dict.fromkeys(re.findall(r":(\w+)", query))
    query = query.replace("ROWS", "(?4, ?5, ?6, ?7, ?8)")
    return [row[3] for row in connection.execute(f"explain query plan {query}", values)]


def reads_all(query: str, steps: list[str]) -> list[str]:
    """Return the steps of a plan that read all of a table, or all of one strategy."""
    names = dict.fromkeys(GROWS, "")
    for table, alias in re.findall(r"\b(?:from|join|update|into)\s+(\w+)(?:\s+(\w+))?", query):
        if table in GROWS:
            names[alias] = names[table] = table
    found = []
    for step in steps:
        read = re.match(r"(SCAN|SEARCH) (\w+)(?: USING (?:COVERING )?INDEX (\w+))?(.*)", step)
        if read is None or read[2] not in names or read[3] in FEW:
            continue
        if read[1] == "SCAN" or read[4].endswith(("(strategy=?)", "(rowid<?)", "(rowid>?)")):
            found.append(step)
    return found


def test_no_query_reads_all_of_a_table_that_grows(tmp_path: Path) -> None:
    open_journal(f"sqlite:///{tmp_path}/journal.db").close()

    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        found = {
            name: steps
            for name, query in queries("sqlite").items()
            if (steps := reads_all(query, plan(connection, query))) and name not in ALL
        }

    assert found.keys() - PAGES == set(), found


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Journal, Journal]]:
    """A short and a long history, and the same in hand in both."""
    opened = []
    for runs in (SHORT, LONG):
        path = tmp_path_factory.mktemp("history") / "journal.db"
        fill(path, runs, now=NOW)
        opened.append(open_journal(f"sqlite:///{path}"))
        opened[-1].atomically(_begin)
    yield opened[0], opened[1]
    for journal in opened:
        journal.close()


def _begin(t: Transaction) -> None:
    for number in range(3):
        one = alert(labels={"alertname": "BenchTimed", "instance": f"new-{number}"})
        key = Key(STRATEGY, f"new-{number}")
        wants = [Want(*key, one.fingerprint), Want(*KEY, one.fingerprint)]
        t.admit(Admission([one]), wants, sender="am", now=NOW)
        episode = t.wanted(key)
        assert episode is not None
        t.open_run(key, State.ACTING if number else State.PENDING, episode=episode, now=NOW)


def _admit(t: Transaction) -> None:
    one = alert(labels={"alertname": "BenchTimed", "instance": "timed-0"}, starts_at=NOW)
    t.admit(Admission([one]), [Want(*KEY, one.fingerprint)], sender="am", now=NOW)


def _run(t: Transaction) -> None:
    episode = t.wanted(KEY)
    assert episode is not None
    run = t.open_run(KEY, State.ACTING, episode=episode, now=NOW)
    t.record(KEY, decide(situation()), run=run.id, now=NOW)
    t.finish(run, Outcome.HEALED, "over", now=NOW + 1)


ASKED: dict[str, Callable[[Transaction], object]] = {
    "start": lambda t: (t.newest(), t.keys(), t.dormancy()),
    "notification": _admit,
    "what fires, matched anew": lambda t: (
        t.number_firing(), t.firing_after(0, limit=50), t.match_anew([LONG + 1], []),
    ),
    "what the guards rest on": lambda t: t.history(
        KEY, now=NOW, but=0, since=NOW - DAY / 2, most=100, lately=NOW - 600
    ),
    "storm": lambda t: t.affected(KEY, limit=0, since=NOW - DAY / 2),
    "blast radius": lambda t: t.latest_starts(KEY, since=NOW - DAY / 2),
    "run": _run,
    "relapse": lambda t: t.last_heal(KEY),
    "scrape": lambda t: (t.stats(), t.relapses(since=NOW - DAY / 2), t.unhealed(limit=50)),
    "budgets": lambda t: t.most_starts(STRATEGY, since=NOW - DAY / 2),
    "page": lambda t: [
        *(t.runs(limit=50, state=state) for state in State),
        t.open_episodes(limit=50), t.runs(limit=50), t.latest_decisions(limit=50),
    ],
    "page of a strategy": lambda t: (
        t.runs(limit=50, strategy=STRATEGY), t.latest_decisions(limit=50, strategy=STRATEGY),
    ),
    "strategy without runs": lambda t: (
        t.runs(limit=50, strategy="gone"), t.latest_decisions(limit=50, strategy="gone"),
    ),
    "outcome without runs": lambda t: (
        t.runs(limit=50, outcome="rolled_back"),
        t.runs(limit=50, strategy=STRATEGY, outcome="rolled_back"),
    ),
    "breakers": lambda t: (t.breakers(), t.transitions(run=LONG + 2)),
    "audit": lambda t: t.audits(limit=5),
    "healing log": lambda t: (
        t.strategies(), t.acted_runs(after=(NOW - 3 * DAY, 0), limit=5), t.unlogged(limit=50)
    ),
    "given up": lambda t: t.give_up(before=NOW - DAY),
    "pruned": lambda t: t.prune(before=NOW - 100 * DAY, limit=1_000),
}  # fmt: skip


@pytest.mark.parametrize("asked", ASKED)
def test_a_long_history_makes_no_more_work(journals: tuple[Journal, Journal], asked: str) -> None:
    """Counted in steps of SQLite's virtual machine, so that no busy machine spoils it."""
    short, long = (_steps(journal, ASKED[asked]) for journal in journals)

    assert long <= 1.1 * short + 100


def _steps(journal: Journal, ask: Callable[[Transaction], object]) -> int:
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    def work(t: Transaction) -> None:
        connection = t.connection  # type: ignore[attr-defined]
        connection.set_progress_handler(count, 1)
        try:
            ask(t)
        finally:
            connection.set_progress_handler(None, 1)

    journal.atomically(work)
    return counted
