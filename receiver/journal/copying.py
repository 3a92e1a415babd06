"""Copy a whole journal into another, empty one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from receiver.errors import RefusedError
from receiver.journal import Journal, Transaction

TABLES: Final = (
    "episode", "wanted", "selected", "run", "step", "observation", "decision",
    "decision_input", "quarantine", "total", "breaker", "breaker_event", "dormancy", "pause",
    "veto", "audit", "configuration", "loaded", "unlogged", "untold", "clock",
)  # fmt: skip
"""All that both databases have, in the order of their foreign keys."""
BATCH: Final = 1_000
"""Rows that are in memory at once."""


def copy(source: Journal, target: Journal, told: Callable[[str, int], None]) -> None:
    """Copy everything in one transaction, or nothing; *told* is called with each table's row count.

    Raises RefusedError when a promheal uses either, or the target is not empty.
    """
    for journal, which in ((source, "first"), (target, "second")):
        if not journal.acquire() or journal.read(lambda t: t.workers()):
            raise RefusedError(
                f"a promheal uses the {which} journal: end every one on both, and try again",
                status=409,
            )
    target.atomically(lambda into: source.read(lambda of: _copy(of, into, told)))


def _copy(source: Transaction, target: Transaction, told: Callable[[str, int], None]) -> None:
    for table in TABLES:
        if target.number(table):
            raise RefusedError(
                f"the second journal is not empty, its table {table} has rows; nothing was copied",
                status=409,
            )
    for table in TABLES:
        for rows in source.dump(table, BATCH):
            target.load(table, rows)
        target.reset_sequence(table)
        count = source.number(table)
        if target.number(table) != count:
            raise RefusedError(f"not every row of {table} arrived; nothing was copied", status=409)
        told(table, count)
