"""What PostgreSQL reads for one decision, however much lies in the journal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from receiver.journal import Admission, open_journal
from receiver.journal.postgres_server import SCHEMA
from receiver.journal.queries import queries
from tests.factories import NOW, alert

RUNS = 5_000
ALERTS = 200


@pytest.fixture
def crowded(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A journal with many runs of one strategy, each on its own target."""
    open_journal(database).close()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"set search_path to {SCHEMA}".encode())
        connection.execute(
            "insert into run (strategy, target, state, outcome, episode, created_at, notified_at,"
            " acted_at, finished_at) select 'latency', 'service=' || n, 'finished', 'healed', n,"
            " n, n, n, n + 1 from generate_series(1, %s) as n",
            [RUNS],
        )
        connection.execute("analyze")
        yield connection


def rows_read(plan: dict[str, Any]) -> int:
    """The most rows that any part of a plan has given to the next."""
    return max([int(plan["Actual Rows"]), *(rows_read(below) for below in plan.get("Plans", ()))])


def test_a_storm_is_looked_for_in_no_more_runs_than_matter(
    crowded: psycopg.Connection[Any],
) -> None:
    query = queries("postgres")["touched"]
    values = {"strategy": "latency", "since": 0.0, "most": 10}
    assert crowded.execute(query.encode(), values).fetchone() == (10,)

    row = crowded.execute(f"explain (analyze, format json) {query}".encode(), values).fetchone()

    assert row is not None
    assert rows_read(row[0][0]["Plan"]) <= 10


def test_who_asks_for_a_target_is_found_without_reading_who_asks_for_others(
    crowded: psycopg.Connection[Any],
) -> None:
    crowded.execute(
        "insert into episode (fingerprint, starts_at, labels, annotations, generator_url, sender,"
        " first_seen, last_seen) select n, n, '{}', '{}', '', 'am', n, n"
        " from generate_series(1, %s) as n",
        [10 * RUNS],
    )
    crowded.execute(
        "insert into wanted select 'latency', 'service=' || (id %% %s), id from episode",
        [10 * RUNS // 25],
    )
    crowded.execute("analyze")
    query = queries("postgres")["asking"]
    values = {"strategy": "latency", "target": "service=7", "limit": 21}
    assert len(crowded.execute(query.encode(), values).fetchall()) == 21

    row = crowded.execute(f"explain (analyze, format json) {query}".encode(), values).fetchone()

    assert row is not None
    assert rows_read(row[0][0]["Plan"]) <= 25, "those of the target"

    query = queries("postgres")["firing_for"]
    assert crowded.execute(query.encode(), values).fetchone() == (7, 48_007)
    row = crowded.execute(f"explain (analyze, format json) {query}".encode(), values).fetchone()
    assert row is not None
    assert rows_read(row[0][0]["Plan"]) == 1, "the first and the last of them"


LATE = 10.0 * RUNS
"""After all that the journal has."""
ASKED: dict[str, dict[str, Any]] = {
    "history": {"strategy": "latency", "target": "service=7", "but": 0},
    "starts": {"strategy": "latency", "target": "service=7", "since": 0.0},
    "held_and_well": {"strategy": "latency"},
    "treated": {"strategy": "latency", "target": "service=7", "since": LATE},
    "latest_starts": {"strategy": "latency", "target": "service=7", "since": LATE},
    "most_starts": {"strategy": "latency", "since": LATE},
    "last_heal": {"strategy": "latency", "target": "service=7"},
    "relapses": {"since": LATE},
    "in_progress": {},
    "states": {},
    "waiting_for": {},
    "unfinished_runs": {},
    "strategies": {},
    "newest": {},
    "runs_in_state": {"state": "acting", "strategy": None, "before": 10**9, "limit": 10},
    "runs_of_strategy": {"strategy": "gone", "state": None, "before": 10**9, "limit": 10},
    "runs_of_strategy_with_outcome": {
        "strategy": "latency", "outcome": "rolled_back", "before": 10**9, "limit": 10,
    },
    "runs_with_outcome": {"outcome": "failed", "before": 10**9, "limit": 10},
    "decisions_of_strategy": {"strategy": "gone", "before": 10**9, "limit": 10},
    "breaker_events_of_run": {"run": 10**9},
    "open_episodes": {"limit": 10, "offset": 0},
    "open_alerts": {},
    "firing_after": {"after": 0, "limit": 10},
    "wanted_after": {"after": 0, "last": 10},
    "give_up": {"before": LATE},
    "prune_runs": {"before": 0.0, "limit": 10},
    "prune_decisions": {"before": 0.0, "limit": 10},
    "prune_episodes": {"before": 0.0, "limit": 10},
    "prune_breaker_events": {"before": 0.0, "limit": 10},
    "prune_audit": {"before": 0.0, "limit": 10},
}  # fmt: skip


FILLED = (
    """
    insert into episode (fingerprint, starts_at, ends_at, labels, annotations, generator_url,
                         sender, first_seen, last_seen)
    select n, n, n, '{}', '{}', '', 'am', n, n
    """,
    """
    insert into decision (strategy, target, verdict, answers, run, at, last_at)
    select 'latency', 'service=' || n, 'allow', '[]', n, n, n
    """,
    """
    insert into breaker_event (breaker, event, at, run, started_at, thresholds, state)
    select 'main', 'failure', n, n, n, '{}', 'CLOSED'
    """,
    """
    insert into audit (at, by, action, object, reason, detail)
    select n, 'anna', 'approve', '', '', ''
    """,
)


def rows_touched(plan: dict[str, Any]) -> int:
    """How many rows all parts of a plan have found, or found and thrown away."""
    here = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    below = sum(rows_touched(below) for below in plan.get("Plans", ()))
    return int(here * plan["Actual Loops"]) + below


def test_a_long_history_makes_no_more_work(crowded: psycopg.Connection[Any]) -> None:
    for sql in FILLED:
        crowded.execute(f"{sql} from generate_series(1, {RUNS}) as n".encode())
    crowded.execute("analyze")
    crowded.execute("set enable_seqscan to off")  # as promheal's connections have it

    touched = {}
    for name, values in ASKED.items():
        query = queries("postgres")[name]
        row = crowded.execute(f"explain (analyze, format json) {query}".encode(), values).fetchone()
        assert row is not None
        touched[name] = rows_touched(row[0][0]["Plan"])

    assert {name: rows for name, rows in touched.items() if rows > 30} == {}


def test_what_was_planned_on_a_new_journal_does_not_read_all_that_came_since(
    database: str,
) -> None:
    journal = open_journal(database)
    for number in range(ALERTS):
        admission = Admission([alert(labels={"alertname": "A", "service": f"s{number}"})])
        journal.atomically(lambda t, a=admission: t.admit(a, (), sender="am", now=NOW))  # type: ignore[misc]
    journal.close()

    with psycopg.connect(database) as connection:
        read = connection.execute(
            "select seq_tup_read from pg_stat_user_tables where relname = 'episode'"
        ).fetchone()

    assert read is not None
    assert read[0] < ALERTS, "not every alert for each alert"
