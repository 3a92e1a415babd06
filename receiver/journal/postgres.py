"""The journal in PostgreSQL, for promheal on many machines: one writer at a time among them all.

A writing transaction begins by taking an advisory lock that it holds until its end. So what a
decision rests on cannot change while it is recorded, whoever decides where: the same promise as
that of the SQLite file, and group commit pays for it in the same way.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors
from psycopg_pool import ConnectionPool, PoolTimeout

from receiver.errors import JournalError
from receiver.journal import Admission, Transaction
from receiver.journal.group import CannotStore, GroupJournal
from receiver.journal.migrate import scripts
from receiver.journal.queries import queries
from receiver.journal.rows import Rows
from receiver.journal.steering_rows import Cursor, Row

T = TypeVar("T")

log: Final = logging.getLogger("promheal.journal")

SCHEMA: Final = "promheal"
"""Where the journal's tables are, and the engine's."""
WRITER: Final = "select pg_advisory_xact_lock(1885891690, 1)"
"""One writing transaction at a time; the first number is promheal's, as in a SQLite file."""
LEADER: Final = "select pg_try_advisory_lock(1885891690, 2)"
MIGRATION: Final = "select pg_advisory_xact_lock(1885891690, 3)"

READERS: Final = 4
AGAIN: Final = 0.5
"""Seconds between attempts to reach a server that is away."""
CONNECT: Final[dict[str, Any]] = {
    "application_name": "promheal",
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4_000,  # ms; how long a server that does not answer is waited for
}
_SETTINGS: Final = (
    f"set search_path to {SCHEMA}; "
    "set lock_timeout to '10s'; "
    "set statement_timeout to '20s'; "
    # A promheal that is cut off in the middle of a transaction holds up all others no longer.
    "set idle_in_transaction_session_timeout to '5s'; "
    "set default_transaction_isolation to 'read committed'; "
    "set jit to off"
)
_AWAY: Final = (
    errors.ConnectionException, errors.OperatorIntervention, errors.InsufficientResources,
    errors.LockNotAvailable, errors.SystemError, errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout, errors.InFailedSqlTransaction,
)  # fmt: skip
"""The server's fault, and not that of a statement."""


class _Named(tuple[Any, ...]):
    """A row of a result, by position and by name."""

    __slots__ = ()
    names: tuple[str, ...]

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self.names.index(key) if isinstance(key, str) else key)

    def keys(self) -> tuple[str, ...]:
        return self.names


def _rows(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], _Named]:
    return _row_of(tuple(column.name for column in cursor.description or ()))


@cache
def _row_of(names: tuple[str, ...]) -> type[_Named]:
    return type("Named", (_Named,), {"names": names, "__slots__": ()})


class PostgresTransaction(Rows):
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__()
        self.connection = connection
        self._queries = queries("postgres")

    def _execute(self, query: str, /, **values: Any) -> Cursor:
        for name, value in values.items():
            if isinstance(value, str) and "\0" in value:  # a text of PostgreSQL has none
                values[name] = value.replace("\0", "\ufffd")
        return execute(self.connection, self._queries[query], values)

    def _admit_firing(self, admission: Admission, *, sender: str, now: float) -> tuple[int, int]:
        if not admission.firing:
            return 0, 0
        fingerprints, starts, labels, annotations, links = (
            admission.firing[column :: Admission.WIDTH] for column in range(Admission.WIDTH)
        )
        # What is said again is noted before anything new is opened.
        repeated, opened = (
            self._execute(
                query, fingerprints=_clean(fingerprints), starts=starts, labels=labels,
                annotations=annotations, links=_clean(links), sender=sender, now=now,
            ).rowcount
            for query in ("admit_again", "admit_new")
        )  # fmt: skip
        return repeated, opened

    def _table(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {
            f"column_{index}": _clean(column)
            for index, column in enumerate(zip(*rows, strict=True))
        }

    def _list(self, values: Sequence[int]) -> list[int]:
        return list(values)


class PostgresJournal(GroupJournal):
    def __init__(self, url: str, *, observe_commit: Callable[[float], None] | None = None) -> None:
        super().__init__(observe_commit=observe_commit)
        self.url = url
        self._shown = shown(url)
        with ExitStack() as opened:
            try:
                connection = opened.enter_context(psycopg.connect(url, autocommit=True, **CONNECT))
                _migrate(connection, self._shown)
            except psycopg.Error as error:
                raise JournalError(f"{self._shown}: {told(error)}") from error
            opened.pop_all()
        _configure(connection)
        self._writer: PostgresTransaction | None = PostgresTransaction(connection)
        self._away = ""
        """Why nothing can be stored now; while it says so, nothing is tried for a caller."""
        self._leading: psycopg.Connection[Any] | None = None
        self._closing = threading.Event()
        self._readers = ConnectionPool(
            url, kwargs={"autocommit": True, **CONNECT}, min_size=1, max_size=READERS,
            configure=_configure, timeout=2.0, reconnect_timeout=0, open=True, name="readers",
        )  # fmt: skip
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def read(self, work: Callable[[Transaction], T]) -> T:
        if self._closed:
            raise JournalError("the journal is closed")
        if self._away:
            raise JournalError(self._away)
        try:
            with self._readers.connection() as connection:
                # One snapshot for everything that *work* reads.
                execute(connection, "begin isolation level repeatable read read only")
                try:
                    return work(PostgresTransaction(connection))
                finally:
                    with suppress(psycopg.Error):
                        connection.execute("rollback")
        except CannotStore as error:
            raise JournalError(str(error)) from error
        except (PoolTimeout, psycopg.Error) as error:
            raise JournalError(f"{self._shown}: {told(error)}") from error

    def acquire(self) -> bool:
        """Become the one process that keeps house; the server frees it with the connection."""
        if self._leading is not None:
            try:
                self._leading.execute("select 1")
            except psycopg.Error:
                self._leading.close()
                self._leading = None
                return False
            return True
        try:
            connection = psycopg.connect(self.url, autocommit=True, **CONNECT)
        except psycopg.Error:
            return False
        try:
            row = connection.execute(LEADER).fetchone()
        except psycopg.Error:
            row = None
        if row is None or not row[0]:
            connection.close()
            return False
        self._leading = connection
        return True

    def close(self) -> None:
        if self._closed:
            return
        self._closing.set()
        super().close()
        self._readers.close()
        if self._leading is not None:
            self._leading.close()

    def _put(self, piece: Any) -> None:
        if self._away:
            raise JournalError(self._away)
        super()._put(piece)

    def _begin(self) -> Rows:
        if self._writer is None:
            raise CannotStore(self._away)
        # Both in one message; the lock is waited for where the transaction has begun, and under
        # `read committed` each statement after it sees what those before us wrote.
        try:
            execute(self._writer.connection, f"begin; {WRITER}")
        except CannotStore:
            if not self._writer.connection.closed:
                raise
            self._writer = self._connected()  # it may have been restarted while nothing was stored
            execute(self._writer.connection, f"begin; {WRITER}")
        return self._writer

    def _savepoint(self) -> None:
        self._tell("savepoint piece")

    def _rollback_to_savepoint(self) -> None:
        self._tell("rollback to piece")

    def _release_savepoint(self) -> None:
        self._tell("release piece")

    def _commit(self) -> None:
        self._tell("commit")

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
            threading.Thread(target=self._mend, name="journal-mend", daemon=True).start()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.connection.close()

    def _tell(self, command: str) -> None:
        assert self._writer is not None
        execute(self._writer.connection, command)

    def _connected(self) -> PostgresTransaction:
        try:
            connection = psycopg.connect(self.url, autocommit=True, **CONNECT)
            _configure(connection)
        except psycopg.Error as error:
            raise CannotStore(f"{self._shown} is away: {told(error)}") from error
        return PostgresTransaction(connection)

    def _mend(self) -> None:
        """Reach the server again, however long it takes."""
        while not self._closing.wait(AGAIN):
            try:
                self._writer = self._connected()
            except CannotStore as error:
                self._away = str(error)
                continue
            self._readers.check()
            self._away = ""
            log.warning("%s is back", self._shown)
            return


def execute(
    connection: psycopg.Connection[Any], query: str, values: dict[str, Any] | None = None
) -> psycopg.Cursor[Row]:
    """Execute a query. Raises CannotStore when it is not the query's fault that it fails."""
    cursor = psycopg.Cursor(connection, row_factory=_rows)
    try:
        return cursor.execute(query.encode(), values)
    except psycopg.Error as error:
        if connection.closed or isinstance(error, _AWAY):
            raise CannotStore(f"cannot store: {told(error)}") from error
        raise


def told(error: BaseException) -> str:
    """Return what an error says in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def shown(url: str) -> str:
    """Return *url* as it may be logged."""
    known = psycopg.conninfo.conninfo_to_dict(url)
    host, name = known.get("host", "localhost"), known.get("dbname", "")
    return f"postgresql://{host}:{known.get('port', 5432)}/{name}"


def _clean(column: Sequence[Any]) -> list[Any]:
    return [
        value.replace("\0", "\ufffd") if isinstance(value, str) and "\0" in value else value
        for value in column
    ]


def _configure(connection: psycopg.Connection[Any]) -> None:
    connection.execute(_SETTINGS.encode())


def _works_with(script: str, version: int) -> int:
    found = re.match(r"-- works with schema (\d+)\n", script)
    return version if found is None else int(found[1])


def _migrate(connection: psycopg.Connection[Any], name: str) -> None:
    """Apply the migrations that are missing, each in one transaction with its number.

    A schema that is newer by what this version can still work with is left as it is: a rolling
    upgrade has both for a while.
    """
    known = scripts("postgres")
    connection.execute("set client_min_messages to warning")
    with connection.transaction():
        connection.execute(MIGRATION)
        connection.execute(f"create schema if not exists {SCHEMA}".encode())
        connection.execute(f"set search_path to {SCHEMA}".encode())
        connection.execute(
            "create table if not exists migration ("
            "version integer primary key, "
            "works_with integer not null, "  # the oldest schema whose promheal can live with it
            "at timestamptz not null default now())"
        )
    while True:
        with connection.transaction():
            connection.execute(MIGRATION)
            row = connection.execute(
                "select coalesce(max(version), 0), coalesce(max(works_with), 0) from migration"
            ).fetchone()
            assert row is not None
            version, works_with = row
            if version >= len(known):
                break
            script = known[version]
            connection.execute(script.encode())
            connection.execute(
                "insert into migration (version, works_with) values (%s, %s)",
                (version + 1, _works_with(script, version + 1)),
            )
            log.info("the journal has schema %d now", version + 1)
    if works_with > len(known):
        raise JournalError(
            f"{name} has schema {version}, this promheal knows {len(known)}: "
            "it was written by a newer version, which must be used"
        )
