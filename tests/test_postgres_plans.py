"""What PostgreSQL reads for one decision, however much lies in the journal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from receiver.journal import open_journal
from receiver.journal.postgres import SCHEMA
from receiver.journal.queries import queries

RUNS = 5_000


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
