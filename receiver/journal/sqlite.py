"""The journal in one SQLite file: WAL, `synchronous=FULL`, one writer."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import msgspec

from receiver.errors import JournalError
from receiver.journal import Admission, Transaction, Worker
from receiver.journal.group import CannotStore, GroupJournal
from receiver.journal.migrate import scripts
from receiver.journal.queries import queries
from receiver.journal.rows import Rows
from receiver.journal.steering_rows import Row

T = TypeVar("T")

APPLICATION_ID: Final = 0x70686C6A
"""Written into the file's header, so that a foreign file is known before anything is touched."""

_ROWS: Final = 100
"""Alerts in one statement; SQLite before 3.32 takes no more than 999 values."""
_CONNECT: Final = (
    "pragma busy_timeout = 5000",
    "pragma foreign_keys = on",
    "pragma synchronous = full",  # an answered notification survives a power cut
    "pragma cache_size = -4000",  # KiB: idle memory is a promise
    "pragma temp_store = memory",
)

_encode = msgspec.json.Encoder().encode


class SqliteTransaction(Rows):
    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        super().__init__()
        self.connection = connection
        self._path = path
        self._queries = queries("sqlite")
        self._of_rows: dict[tuple[str, int], str] = {}  # queries by their number of tuples

    def _execute(self, query: str, /, **values: Any) -> sqlite3.Cursor:
        return self._run_sql(self._queries[query], values)

    def _changed(self, query: str, /, **values: Any) -> int:
        return self._execute(query, **values).rowcount

    def _admit_firing(
        self, admission: Admission, *, sender: str, vouched_by: str, now: float
    ) -> tuple[int, int]:
        repeated = opened = 0
        width = _ROWS * Admission.WIDTH
        for start in range(0, len(admission.firing), width):
            values = [now, sender, vouched_by, *admission.firing[start : start + width]]
            # What is said again is noted before anything new is opened.
            repeated += self._execute_many("admit_again", values)
            opened += self._execute_many("admit_new", values)
        return repeated, opened

    def _execute_many(self, name: str, values: Sequence[object]) -> int:
        """Execute a query with a tuple for each alert; return how many rows it changed."""
        rows = (len(values) - 3) // Admission.WIDTH
        if (name, rows) not in self._of_rows:
            tuples = ", ".join(["(?, ?, ?, ?, ?)"] * rows)
            self._of_rows[name, rows] = self._queries[name].replace("ROWS", tuples)
        return self._run_sql(self._of_rows[name, rows], values).rowcount

    def _run_sql(self, sql: str, values: Any) -> sqlite3.Cursor:
        try:
            return self.connection.execute(sql, values)
        except sqlite3.OperationalError as error:
            raise CannotStore(f"{self._path}: cannot store: {error}") from error

    def _table(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {"rows": _encode(rows).decode()}

    def _list(self, values: Sequence[int]) -> str:
        return _encode(values).decode()

    def _ask(self, sql: str) -> sqlite3.Cursor:
        return self._run_sql(sql, ())

    def dump(self, table: str, batch: int) -> Iterator[list[Row]]:
        cursor = self._ask(f"select * from {table} order by 1")  # noqa: S608
        while rows := cursor.fetchmany(batch):
            yield rows

    def load(self, table: str, rows: list[Row]) -> None:
        names = rows[0].keys()
        values = ", ".join("?" * len(names))
        sql = f"insert into {table} ({', '.join(names)}) values ({values})"  # noqa: S608
        self.connection.executemany(sql, [tuple(row) for row in rows])

    # -- there are no other processes

    def wake(self, *_: object, **__: object) -> set[str]:
        return set()

    def hold(self, *_: object) -> None:
        pass

    def has_worker(self, _: str) -> bool:
        return False

    def workers(self) -> list[Worker]:
        return []


class SqliteJournal(GroupJournal):
    def __init__(
        self, path: Path, *, observe_commit: Callable[[float], None] | None = None
    ) -> None:
        super().__init__(observe_commit=observe_commit)
        self.path = path
        with ExitStack() as opened, self._explained():
            self._lock_file = opened.enter_context(_lock_file(path))
            writer = opened.enter_context(closing(self._connect()))
            _check(writer, path)
            writer.execute("pragma journal_mode = wal")
            _migrate(writer)
            self._reader = SqliteTransaction(opened.enter_context(closing(self._connect())), path)
            opened.pop_all()  # all is well: they stay open until close()
        self._reading = threading.Lock()
        self._writer = SqliteTransaction(writer, path)
        self._thread.start()

    def read(self, work: Callable[[Transaction], T]) -> T:
        with self._reading, self._explained():
            if self._closed:
                raise JournalError("the journal is closed")
            connection = self._reader.connection
            connection.execute("begin")  # one snapshot for everything that *work* reads
            try:
                return work(self._reader)
            finally:
                connection.rollback()

    def acquire(self) -> bool:
        # The kernel frees the lock when the process dies, however it dies.
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        if self._closed:
            return
        super().close()
        with self._reading:
            self._reader.connection.close()
        self._lock_file.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.row_factory = sqlite3.Row
        for pragma in _CONNECT:
            connection.execute(pragma)
        return connection

    def _explained(self) -> _Explained:
        return _Explained(self.path)

    def _begin(self) -> Rows:
        self._tell("begin immediate")
        return self._writer

    def _undo(self) -> None:
        self._writer.forget_group()
        if self._writer.connection.in_transaction:
            self._writer.connection.rollback()

    def _end(self) -> None:
        self._writer.connection.close()

    def _tell(self, command: str) -> None:
        try:
            self._writer.connection.execute(command)
        except sqlite3.Error as error:
            raise CannotStore(f"{self.path}: cannot store: {error}") from error


class _Explained:
    """Turns SQLite's errors into JournalError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, CannotStore):
            raise JournalError(str(error)) from error
        if isinstance(error, sqlite3.OperationalError):
            raise JournalError(f"{self._path}: {error}") from error
        if isinstance(error, sqlite3.DatabaseError):
            raise JournalError(f"{self._path} is damaged: {error}; {_aside(self._path)}") from error


def _lock_file(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(path.name + ".lock").open("a")
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}; choose another --storage.url") from None


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is damaged or is not ours: acting on a wrong history is worse than not.

    A later INSERT into a damaged file may succeed (measured), so it must be asked for.
    """
    (identity,) = connection.execute("pragma application_id").fetchone()
    (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
    if tables and identity != APPLICATION_ID:
        raise JournalError(
            f"{path} is a database, but not a journal of promheal; nothing was changed; "
            "choose another --storage.url"
        )
    (verdict,) = connection.execute("pragma quick_check(1)").fetchone()
    if verdict != "ok":
        raise JournalError(f"{path} is damaged: {verdict}; {_aside(path)}")


def _aside(path: Path) -> str:
    return (
        f"nothing was changed; to start anew, keep it for later with all that belongs to it: "
        f"for f in {path}*; do mv $f $f.damaged; done"
    )


def _migrate(connection: sqlite3.Connection) -> None:
    """Apply the migrations that are missing, each in one transaction with its number."""
    known = scripts("sqlite")
    (version,) = connection.execute("pragma user_version").fetchone()
    if version > len(known):
        raise JournalError(
            f"the journal has schema {version}, this promheal knows {len(known)}: "
            "it was written by a newer version, which must be used"
        )
    for number, script in enumerate(known[version:], version + 1):
        connection.executescript(
            f"begin immediate;\n{script}\n"
            f"pragma application_id = {APPLICATION_ID};\npragma user_version = {number};\ncommit;"
        )
