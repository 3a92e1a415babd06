"""Transactions whose commit really fails, after every statement of theirs has succeeded."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from receiver.journal import EVERYTHING, Extent, Journal, Transaction

T = TypeVar("T")

_TRIGGER = """\
create function pg_temp.at_commit() returns trigger language plpgsql as $$
begin {does}; return null; end $$;
create temp table spoilt (id integer);
create constraint trigger spoilt after insert on spoilt deferrable initially deferred
  for each row execute function pg_temp.at_commit();
insert into spoilt values (1)
"""
SPOILERS = {
    "violated": _TRIGGER.format(does="raise foreign_key_violation"),
    "full": _TRIGGER.format(does="raise disk_full"),
    "cut": _TRIGGER.format(does="perform pg_terminate_backend(pg_backend_pid())"),
}
"""What happens in PostgreSQL at the commit, and the statements that make it happen."""


def spoil(transaction: Transaction, how: str = "violated") -> None:
    """Make the commit of *transaction* fail, and nothing before it."""
    ask = transaction._ask  # SQL that is among no named queries
    if isinstance(transaction.connection, sqlite3.Connection):  # type: ignore[attr-defined]
        ask("pragma defer_foreign_keys = on")  # until the end of the transaction
        ask("insert into unlogged (run) values (-1)")  # of a run that there is not
    else:
        for statement in SPOILERS[how].split(";\n"):
            ask(statement)


class Failing:
    """Has some commits of a journal fail, counted from 1, or all; the others succeed."""

    def __init__(self, journal: Journal, *numbers: int, all_of_them: bool = False) -> None:
        self.numbers = set(numbers)
        self.all = all_of_them
        self.commits = 0
        self._atomically = journal.atomically
        journal.atomically = self.atomically  # type: ignore[method-assign]

    def atomically(self, work: Callable[[Transaction], T], extent: Extent = EVERYTHING) -> T:
        self.commits += 1
        fails = self.all or self.commits in self.numbers

        def spoilt(transaction: Transaction) -> T:
            value = work(transaction)
            if fails:
                spoil(transaction)
            return value

        return self._atomically(spoilt, extent)
