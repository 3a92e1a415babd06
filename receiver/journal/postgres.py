"""The journal in PostgreSQL, for promheal on many machines: three writers in each process.

A writing transaction reaches so far (`receiver.journal.extent`), and each lane has its own writer:
so who accepts alerts waits for no run, and runs of different targets do not wait for each other.
"""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from receiver.errors import CannotStore, JournalError
from receiver.journal import Journal
from receiver.journal.condition import SOUND, JournalCondition, JournalState
from receiver.journal.extent import EVERYTHING, Extent, Lane
from receiver.journal.postgres_cursor import execute, explained, one_line
from receiver.journal.postgres_server import CONNECT, configure, connect, opened
from receiver.journal.postgres_transaction import PostgresTransaction
from receiver.journal.postgres_writer import PostgresWriter, SharedServer
from receiver.journal.stored import Stored

T = TypeVar("T")
_Work = Callable[[PostgresTransaction], T]

log: Final = logging.getLogger("promheal.journal")

LEADER: Final = "select pg_try_advisory_lock(1885891690, 2)"

READERS: Final = 4
AGAIN: Final = 0.5
"""Seconds between attempts to reach a server that is away."""


class PostgresJournal(Journal):
    def __init__(self, url: str, *, observe_commit: Callable[[float], None] | None = None) -> None:
        opened(url).close()
        self.url = url
        self._server = SharedServer(url)
        self._leading: psycopg.Connection[Any] | None = None
        self._closed = False
        self._closing = threading.Event()
        self._fence = threading.local()
        self._readers = ConnectionPool(
            url, kwargs={"autocommit": True, **CONNECT}, min_size=1, max_size=READERS,
            configure=configure, check=_still_there, timeout=10.0, reconnect_timeout=0, open=True,
            name="readers",
        )  # fmt: skip
        self._writers = {
            lane: PostgresWriter(lane, self._server, observe_commit=observe_commit) for lane in Lane
        }
        threading.Thread(target=self._mend, name="journal-mend", daemon=True).start()

    @property
    def shared(self) -> bool:
        return True

    @property
    def alive(self) -> bool:
        return all(writer.alive for writer in self._writers.values())

    @property
    def trouble(self) -> str:
        return self._server.trouble

    @property
    def condition(self) -> JournalCondition:
        away = self._server.away
        return JournalCondition(JournalState.UNAVAILABLE, away) if away else SOUND

    def atomically(
        self, work: Callable[[PostgresTransaction], T], extent: Extent = EVERYTHING
    ) -> T:
        return self._writer(extent).atomically(self._fenced(work), extent)

    def submit(
        self,
        work: Callable[[PostgresTransaction], T],
        done: Callable[[Stored[T]], None],
        extent: Extent = EVERYTHING,
    ) -> None:
        self._writer(extent).submit(work, done, extent)

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
        if self._server.away:
            raise JournalError(self._server.away)
        try:
            with self._readers.connection() as connection:
                yield connection
        except CannotStore as error:
            raise JournalError(str(error)) from error
        except (PoolTimeout, psycopg.Error) as error:
            raise JournalError(f"{self._server.shown}: {one_line(error)}") from error

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
        self._closed = True
        self._closing.set()
        self._server.lost.set()
        for writer in self._writers.values():
            writer.close()
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

    def _writer(self, extent: Extent) -> PostgresWriter:
        if self._server.away:
            raise JournalError(self._server.away)
        return self._writers[extent.lane]

    def _mend(self) -> None:
        """Reconnect whenever a connection is lost, however long it takes."""
        server = self._server
        while server.lost.wait() and not self._closing.wait(AGAIN):
            try:
                server.connected().close()
            except CannotStore as error:
                server.away = str(error)
                continue
            server.lost.clear()
            self._readers.check()
            server.away = server.trouble = ""
            log.warning("%s is back", server.shown)


def _still_there(connection: psycopg.Connection[Any]) -> None:
    """Raise where the server has ended *connection*, which was idle.

    A server that restarts says so, or closes it: asking each time would cost a round trip a read.
    """
    said = select.poll()
    said.register(connection.fileno(), select.POLLIN)
    if said.poll(0):
        ConnectionPool.check_connection(connection)
