"""A journal that is forgotten: SQLite in memory, for simulations.

The same transactions, SQL and schema as in a file; no writer thread, and nothing is durable.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from receiver.errors import CannotStore, JournalError
from receiver.journal import EVERYTHING, Extent, Journal
from receiver.journal.migrate import scripts
from receiver.journal.sqlite_file import explained, migrate
from receiver.journal.sqlite_transaction import SqliteTransaction
from receiver.journal.stored import Stored, not_stored

T = TypeVar("T")

_NOWHERE: Final = Path(":memory:")


class MemoryJournal(Journal):
    """Each piece of work is its own transaction, and is done by the thread that brings it.

    So none may be brought while one is done, not even to be read beside it.
    """

    def __init__(self, *, has_worker: Callable[[str], bool] = lambda _: False) -> None:
        """*has_worker*: whether a worker for a host or label lives."""
        connection = sqlite3.connect(
            _NOWHERE, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.row_factory = sqlite3.Row
        connection.execute("pragma foreign_keys = on")
        migrate(connection, scripts("sqlite"), 0)
        self._transaction = _MemoryTransaction(connection, has_worker)
        self._one_at_a_time = threading.RLock()
        self._busy = False
        self._closed = False

    trouble = ""  # memory has none

    @property
    def alive(self) -> bool:
        return not self._closed

    def atomically(
        self,
        work: Callable[[SqliteTransaction], T],
        extent: Extent = EVERYTHING,  # noqa: ARG002  nobody else writes
    ) -> T:
        transaction = self._transaction
        with self._taken() as connection:
            connection.execute("begin immediate")
            try:
                value = work(transaction)
                transaction.keep_counts()
                transaction.write_counts()
                connection.execute("commit")
            except BaseException as error:
                transaction.forget_group()
                connection.rollback()
                if isinstance(error, CannotStore):
                    raise JournalError(str(error)) from error
                raise
        return value

    def submit(
        self,
        work: Callable[[SqliteTransaction], T],
        done: Callable[[Stored[T]], None],
        extent: Extent = EVERYTHING,  # noqa: ARG002
    ) -> None:
        if self._closed:
            raise JournalError("the journal is closed")
        try:
            stored = Stored(self.atomically(work))
        except BaseException as error:  # noqa: BLE001  it is raised where the value is asked for
            stored = not_stored(error)
        done(stored)

    def read(self, work: Callable[[SqliteTransaction], T]) -> T:
        with self._taken(), explained(_NOWHERE):
            return work(self._transaction)  # nobody writes beside it, so it needs no snapshot

    def acquire(self) -> bool:
        return True

    def close(self) -> None:
        with self._one_at_a_time:
            if not self._closed:
                self._closed = True
                self._transaction.connection.close()

    @contextmanager
    def _taken(self) -> Iterator[sqlite3.Connection]:
        """Have the connection within the block."""
        with self._one_at_a_time:
            if self._closed:
                raise JournalError("the journal is closed")
            assert not self._busy, "work touches nothing but its transaction"
            self._busy = True
            try:
                yield self._transaction.connection
            finally:
                self._busy = False


class _MemoryTransaction(SqliteTransaction):
    def __init__(self, connection: sqlite3.Connection, has_worker: Callable[[str], bool]) -> None:
        super().__init__(connection, _NOWHERE)
        self._has_worker = has_worker

    def has_worker(self, name: str) -> bool:
        return self._has_worker(name)
