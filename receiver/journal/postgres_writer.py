"""Who writes into PostgreSQL? One thread and one connection for each lane, with group commit.

A transaction begins by taking what its group must have for itself, all at once and in one order:
so no two wait for each other in a circle. Which lane has what: docs/explanation/locks.md.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from receiver.errors import CannotStore, FencedError
from receiver.journal.alert_locks import locks_of_alerts
from receiver.journal.extent import Lane
from receiver.journal.group import Became, GroupWriter, Work
from receiver.journal.postgres_cursor import QueryResult, execute, explained, one_line
from receiver.journal.postgres_server import PATIENCE, configure, connect, shown
from receiver.journal.postgres_transaction import PostgresTransaction

log: Final = logging.getLogger("promheal.journal")

ONE_AT_A_TIME: Final = "select pg_advisory_xact_lock(1885891690, 1)"
"""What is counted over several targets; the first number is promheal's, as in a SQLite file."""


class SharedServer:
    """The PostgreSQL that all writers of a process share, and whether it can be reached."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shown = shown(url)
        self.away = ""
        """Why nothing can be stored now; while it is set, callers fail at once."""
        self.trouble = ""
        """Why the last attempt of any writer failed."""
        self.lost = threading.Event()
        """Set when a connection is gone, and at the end."""

    def connected(self) -> psycopg.Connection[Any]:
        """Connect. Raises CannotStore."""
        try:
            connection = connect(self.url)
            configure(connection)
        except psycopg.Error as error:
            raise CannotStore(f"{self.shown} is away: {one_line(error)}") from error
        return connection

    def gone(self) -> None:
        if not self.away:
            self.away = f"{self.shown} is away"
            log.error("%s; nothing is accepted and nothing begins until it is back", self.away)
            self.lost.set()


class PostgresWriter(GroupWriter[PostgresTransaction]):
    """Connects when there is something to write: not every process writes in every lane."""

    def __init__(
        self,
        lane: Lane,
        server: SharedServer,
        *,
        observe_commit: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(observe_commit=observe_commit, name=f"journal {lane.value}")
        self._lane = lane
        self._server = server
        self._writer: PostgresTransaction | None = None
        self._answer: QueryResult | None = None  # of the last command
        # Not when it is needed: on a machine in trouble no thread might start then.
        self._thread.start()

    @property
    def trouble(self) -> str:
        return self._server.trouble

    @trouble.setter
    def trouble(self, trouble: str) -> None:
        self._server.trouble = trouble

    def _begin(self, batch: list[Work]) -> PostgresTransaction:
        writer = self._writer or self._connected()
        if writer.connection.info.transaction_status is TransactionStatus.INTRANS:
            return writer
        try:
            self._take(writer, batch)
        except (CannotStore, errors.DeadlockDetected) as error:
            if writer.connection.closed:  # restarted while nothing was stored
                writer = self._connected()
            elif isinstance(error, errors.DeadlockDetected):
                self._undo()  # and so the others go on
            elif isinstance(error.__cause__, errors.LockNotAvailable):
                self._end_who_is_stuck(writer)
            else:
                raise
            self._take(writer, batch)
        return writer

    def _take(self, writer: PostgresTransaction, batch: Iterable[Work]) -> None:
        # In one message; the locks are waited for where the transaction has begun, and under `read
        # committed` each statement after it sees what those before us wrote.
        execute(writer.connection, "; ".join(("begin", *self._locks(batch))))

    def _locks(self, batch: Iterable[Work]) -> list[str]:
        match self._lane:
            case Lane.EVERYTHING:
                return [ONE_AT_A_TIME]
            case Lane.OWN:
                return []
            case Lane.ALERTS:
                return locks_of_alerts(piece.extent.fingerprints for piece in batch)

    def _end_who_is_stuck(self, writer: PostgresTransaction) -> None:
        """End connections whose process was stopped in a transaction: others wait for its locks.

        `idle_in_transaction_session_timeout` misses one that has sent more than it waits for.
        """
        with suppress(psycopg.Error):
            writer.connection.execute("rollback")
        for backend in writer.end_stuck(PATIENCE):
            log.error("ended the connection of a process that was stuck (backend %d)", backend)

    def _together(self, batch: list[Work]) -> Became:
        """As every writer, in a pipeline: a statement is sent with those that follow it."""
        writer = self._begin(batch)
        try:
            with explained(writer.connection), writer.connection.pipeline() as pipeline:
                writer.pipeline = pipeline
                became = super()._together(batch)
            if became is not None:
                self._see_committed()  # only now has the answer come
        except (psycopg.Error, FencedError):
            became = None  # found at the end: one by one it shows whose fault it is
        except CannotStore as error:
            if not isinstance(error.__cause__, errors.LockNotAvailable):
                raise
            writer.pipeline = None
            self._undo()
            self._end_who_is_stuck(writer)
            became = None  # a row was held for too long
        finally:
            writer.pipeline = None
        if became is None:
            self._undo()
        return became

    def _fails(self, error: BaseException) -> bool:
        return isinstance(error, errors.DeadlockDetected)

    def _written(self) -> bool:
        assert self._writer is not None
        found = execute(
            self._writer.connection, "select pg_current_xact_id_if_assigned()"
        ).fetchone()
        return found is not None and found[0] is not None

    def _undo(self) -> None:
        writer = self._writer
        if writer is None:
            return
        writer.forget_group()
        with suppress(psycopg.Error):
            writer.connection.execute("rollback")
        if writer.connection.closed:
            self._writer = None
            self._server.gone()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.connection.close()

    def _tell(self, command: str) -> None:
        assert self._writer is not None
        self._answer = execute(self._writer.connection, command)

    def _commit(self, transaction: PostgresTransaction) -> None:
        super()._commit(transaction)
        if self._writer is not None and self._writer.pipeline is None:
            self._see_committed()

    def _see_committed(self) -> None:
        """Check how the commit ended: in a failed transaction it is a rollback, and no error."""
        if self._answer is None or self._answer.status != "COMMIT":
            raise CannotStore("cannot store: the server has undone it")
        if self._writer is not None:
            # It is stored, and found at the next poll or resync.
            with suppress(CannotStore, psycopg.Error):
                self._writer.tell()

    def _connected(self) -> PostgresTransaction:
        self._writer = None
        try:
            connection = self._server.connected()
        except CannotStore:
            self._server.gone()
            raise
        self._writer = PostgresTransaction(connection, writes=True)
        return self._writer
