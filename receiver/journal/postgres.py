"""The journal in PostgreSQL, for promheal on many machines: one writer at a time among them all.

A writing transaction begins by taking an advisory lock that it holds until its end. So what a
decision rests on cannot change while it is recorded, whoever decides where: the same promise as
that of the SQLite file, and group commit pays for it in the same way.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from receiver.errors import FencedError, JournalError
from receiver.journal.condition import SOUND, JournalCondition, JournalState
from receiver.journal.group import CannotStore, GroupJournal, Work
from receiver.journal.postgres_cursor import QueryResult, execute, explained, one_line
from receiver.journal.postgres_server import CONNECT, PATIENCE, configure, connect, opened, shown
from receiver.journal.postgres_transaction import PostgresTransaction
from receiver.journal.queries import queries
from receiver.journal.stored import Stored

T = TypeVar("T")
_Work = Callable[[PostgresTransaction], T]

log: Final = logging.getLogger("promheal.journal")

WRITER: Final = "select pg_advisory_xact_lock(1885891690, 1)"
"""One writing transaction at a time; the first number is promheal's, as in a SQLite file."""
LEADER: Final = "select pg_try_advisory_lock(1885891690, 2)"

READERS: Final = 4
AGAIN: Final = 0.5
"""Seconds between attempts to reach a server that is away."""


class PostgresJournal(GroupJournal[PostgresTransaction]):
    def __init__(self, url: str, *, observe_commit: Callable[[float], None] | None = None) -> None:
        super().__init__(observe_commit=observe_commit)
        self.url = url
        self._shown = shown(url)
        connection = opened(url)
        configure(connection)
        self._writer: PostgresTransaction | None = PostgresTransaction(connection)
        self._answer: QueryResult | None = None  # of the last command
        self._away = ""
        """Why nothing can be stored now; while it is set, callers fail at once."""
        self._leading: psycopg.Connection[Any] | None = None
        self._closing = threading.Event()
        self._lost = threading.Event()
        """Set when the writer's connection is gone, and at the end."""
        self._fence = threading.local()
        self._readers = ConnectionPool(
            url, kwargs={"autocommit": True, **CONNECT}, min_size=1, max_size=READERS,
            configure=configure, timeout=10.0, reconnect_timeout=0, open=True, name="readers",
        )  # fmt: skip
        self._thread.start()
        # Not when it is needed: on a machine in trouble no thread might start then.
        threading.Thread(target=self._mend, name="journal-mend", daemon=True).start()

    @property
    def shared(self) -> bool:
        return True

    @property
    def condition(self) -> JournalCondition:
        return JournalCondition(JournalState.UNAVAILABLE, self._away) if self._away else SOUND

    def atomically(self, work: Callable[[PostgresTransaction], T]) -> T:
        return super().atomically(self._fenced(work))

    @contextmanager
    def fenced(self, target: str, epoch: int) -> Iterator[None]:
        """Have everything that this thread stores carry the epoch of its claim.

        `atomically` raises FencedError, and stores nothing, once another process has taken over.
        """
        self._fence.claim = target, epoch
        try:
            yield
        finally:
            self._fence.claim = None

    def read(self, work: Callable[[PostgresTransaction], T]) -> T:
        with self._reader() as connection:
            try:
                with connection.pipeline() as pipeline:
                    # One snapshot for everything that *work* reads.
                    execute(connection, "begin isolation level repeatable read read only")
                    transaction = PostgresTransaction(connection)
                    transaction.pipeline = pipeline
                    found = work(transaction)
                    execute(connection, "rollback")
            except BaseException:
                with suppress(psycopg.Error):
                    connection.execute("rollback")
                raise
            return found

    def aside(self, work: Callable[[PostgresTransaction], T]) -> T:
        """Run *work* in its own transaction, beside the writers: it rests on nothing of theirs.

        For heartbeats, which each process must send while a writer takes its time.
        """
        with (
            self._reader() as connection,
            explained(connection),
            connection.transaction(),
        ):
            return work(PostgresTransaction(connection))

    @contextmanager
    def _reader(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend a connection beside the writer's; its failures are JournalErrors."""
        if self._closed:
            raise JournalError("the journal is closed")
        if self._away:
            raise JournalError(self._away)
        try:
            with self._readers.connection() as connection:
                yield connection
        except CannotStore as error:
            raise JournalError(str(error)) from error
        except (PoolTimeout, psycopg.Error) as error:
            raise JournalError(f"{self._shown}: {one_line(error)}") from error

    def acquire(self) -> bool:
        # The server frees the lock with the connection, however the process ends.
        try:
            if self._leading is None:
                self._leading = connect(self.url)
                self._leading.execute("listen promheal_news")
            row = self._leading.execute(LEADER).fetchone()
        except psycopg.Error:
            if self._leading is not None:
                self._leading.close()
                self._leading = None
            return False
        return row is not None and bool(row[0])

    def news(self, timeout: float) -> bool:
        if self._leading is None:
            return False
        try:
            return any(self._leading.notifies(timeout=timeout, stop_after=1))
        except psycopg.Error:
            return False  # `acquire` finds out why

    def now(self) -> float:
        return self.read(lambda t: t.now())

    def secret(self, name: str) -> bytes:
        return self.read(lambda t: t.secret(name))

    def close(self) -> None:
        if self._closed:
            return
        self._closing.set()
        self._lost.set()
        super().close()
        self._readers.close()
        if self._leading is not None:
            self._leading.close()

    def _fenced(self, work: _Work[T]) -> _Work[T]:
        claim = getattr(self._fence, "claim", None)
        if claim is None:
            return work

        def checked(transaction: PostgresTransaction) -> T:
            transaction.check(*claim)
            return work(transaction)

        return checked

    def _require_open(self) -> None:
        super()._require_open()
        if self._away:
            raise JournalError(self._away)

    def _begin(self) -> PostgresTransaction:
        writer = self._writer
        if writer is None:
            raise CannotStore(self._away)
        if writer.connection.info.transaction_status is not TransactionStatus.INTRANS:
            # Both in one message; the lock is waited for where the transaction has begun, and under
            # `read committed` each statement after it sees what those before us wrote.
            try:
                execute(writer.connection, f"begin; {WRITER}")
            except CannotStore as error:
                if writer.connection.closed:  # restarted while nothing was stored
                    writer = self._writer = self._connected()
                elif isinstance(error.__cause__, errors.LockNotAvailable):
                    self._end_who_is_stuck(writer)
                else:
                    raise
                execute(writer.connection, f"begin; {WRITER}")
        return writer

    def _end_who_is_stuck(self, writer: PostgresTransaction) -> None:
        """End a connection that holds the writers' lock: its process was stopped in a transaction.

        `idle_in_transaction_session_timeout` misses one that has sent more than it waits for.
        """
        writer.connection.execute("rollback")
        for row in execute(
            writer.connection, queries("postgres")["end_stuck"], {"seconds": PATIENCE}
        ):
            log.error("ended the connection of a process that was stuck (backend %d)", row[0])

    def _together(self, batch: list[Work]) -> list[Stored[Any]] | None:
        """As every journal, in a pipeline: a statement is sent with those that follow it."""
        self._begin()
        writer = self._writer
        assert writer is not None
        try:
            with explained(writer.connection), writer.connection.pipeline() as pipeline:
                writer.pipeline = pipeline
                became = super()._together(batch)
            if became is not None:
                self._see_committed()  # only now has the answer come
        except (psycopg.Error, FencedError):
            became = None  # found at the end: one by one it shows whose fault it is
        finally:
            writer.pipeline = None
        if became is None:
            self._undo()
        return became

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
            self._away = f"{self._shown} is away"
            log.error("%s; nothing is accepted and nothing begins until it is back", self._away)
            self._lost.set()

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

    def _connected(self) -> PostgresTransaction:
        try:
            connection = connect(self.url)
            configure(connection)
        except psycopg.Error as error:
            raise CannotStore(f"{self._shown} is away: {one_line(error)}") from error
        return PostgresTransaction(connection)

    def _mend(self) -> None:
        """Reconnect whenever the connection is lost, however long it takes."""
        while self._lost.wait() and not self._closing.wait(AGAIN):
            try:
                writer = self._connected()
            except CannotStore as error:
                self._away = str(error)
                continue
            self._lost.clear()
            self._writer = writer
            self._readers.check()
            self._away = self.trouble = ""
            log.warning("%s is back", self._shown)
