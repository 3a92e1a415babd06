"""The journal in one SQLite file: WAL, `synchronous=FULL`, one writer thread, group commit.

All work that waits when the writer is free shares one transaction and one fsync. A piece of work
that fails takes nothing with it: then all are done once more, each in a savepoint of its own.
"""

from __future__ import annotations

import fcntl
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from importlib.resources import files
from pathlib import Path
from time import perf_counter
from typing import IO, Any, Final, TypeVar

from receiver.errors import JournalError
from receiver.journal import Journal, Transaction
from receiver.journal.rows import SqliteTransaction

T = TypeVar("T")

log: Final = logging.getLogger("promheal.journal")

APPLICATION_ID: Final = 0x70686C6A
"""Written into the file's header, so that a foreign file is known before anything is touched."""
GROUP: Final = 256
"""Pieces of work in one transaction at most: a bound on how long the first one waits."""

_CONNECT: Final = (
    "pragma busy_timeout = 5000",
    "pragma foreign_keys = on",
    "pragma synchronous = full",  # an answered notification survives a power cut
    "pragma cache_size = -4000",  # KiB: idle memory is a promise
    "pragma temp_store = memory",
)


class _Work:
    """A piece of work on its way to the writer and back."""

    __slots__ = ("done", "error", "function", "result")

    def __init__(
        self,
        function: Callable[[Transaction], Any] | None,
        done: Callable[[Any, BaseException | None], None],
    ) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = done


class SqliteJournal(Journal):
    def __init__(
        self, path: Path, *, observe_commit: Callable[[float], None] | None = None
    ) -> None:
        self.path = path
        self._observe_commit = observe_commit
        with ExitStack() as opened, self._explained():
            self._lock_file = opened.enter_context(_lock_file(path))
            writer = opened.enter_context(closing(self._connect()))
            _check(writer, path)
            writer.execute("pragma journal_mode = wal")
            _migrate(writer)
            self._reader = SqliteTransaction(opened.enter_context(closing(self._connect())), path)
            opened.pop_all()  # all is well: they stay open until close()
        self._reading = threading.Lock()
        self._queue: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(
            target=self._write, args=(SqliteTransaction(writer, path),), name="journal", daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def atomically(self, work: Callable[[Transaction], T]) -> T:
        if self._closed:
            raise JournalError("the journal is closed")
        waiting = threading.Lock()  # the cheapest thing that one thread can wait for
        waiting.acquire()
        piece = _Work(work, lambda _result, _error: waiting.release())
        self._queue.put(piece)
        waiting.acquire()
        if piece.error is not None:
            raise piece.error
        return piece.result  # type: ignore[no-any-return]  # what `work` returned, unchanged

    def submit(
        self,
        work: Callable[[Transaction], T],
        done: Callable[[T | None, BaseException | None], None],
    ) -> None:
        if self._closed:
            raise JournalError("the journal is closed")
        self._queue.put(_Work(work, done))

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
        self._closed = True
        self._queue.put(_Work(None, lambda _result, _error: None))
        self._thread.join()
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

    def _write(self, transaction: SqliteTransaction) -> None:
        closing = False
        while not closing:
            batch = [self._queue.get()]
            while len(batch) < GROUP:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            closing = any(piece.function is None for piece in batch)
            self._commit(transaction, [piece for piece in batch if piece.function is not None])
        transaction.connection.close()

    def _commit(self, transaction: SqliteTransaction, batch: list[_Work]) -> None:
        start = perf_counter()
        try:
            if not self._together(transaction, batch):
                self._one_by_one(transaction, batch)
        except sqlite3.Error as error:
            self.writable = False
            self._undo(transaction)
            for piece in batch:
                piece.error = piece.error or JournalError(f"{self.path}: cannot store: {error}")
        else:
            self.writable = True
            if self._observe_commit is not None:
                self._observe_commit(perf_counter() - start)
        finally:
            for piece in batch:
                try:
                    piece.done(piece.result, piece.error)
                except Exception:
                    log.exception("telling what was stored failed")

    def _together(self, transaction: SqliteTransaction, batch: list[_Work]) -> bool:
        """Do all pieces in one transaction; False, and nothing is done, when one of them fails.

        Nearly always none does, and each call to SQLite costs the lock of Python's interpreter,
        so they are not kept apart at first.
        """
        connection = transaction.connection
        connection.execute("begin immediate")
        try:
            for piece in batch:
                assert piece.function is not None
                piece.result = piece.function(transaction)
                transaction.keep_counts()
        except sqlite3.OperationalError:
            raise  # the disk and not the work: the whole group is told
        except BaseException:  # noqa: BLE001  it is found again, and told, one by one
            self._undo(transaction)
            return False
        transaction.write_counts()
        connection.execute("commit")
        return True

    @staticmethod
    def _one_by_one(transaction: SqliteTransaction, batch: list[_Work]) -> None:
        """Do each piece in a savepoint of its own, so that the one that fails fails alone."""
        connection = transaction.connection
        connection.execute("begin immediate")
        for piece in batch:
            assert piece.function is not None
            connection.execute("savepoint piece")
            try:
                piece.result = piece.function(transaction)
            except sqlite3.OperationalError:
                raise
            except BaseException as error:  # noqa: BLE001  it is the caller's, and raised there
                piece.error = error
                transaction.forget_counts()
                connection.execute("rollback to piece")
            else:
                transaction.keep_counts()
            connection.execute("release piece")
        transaction.write_counts()
        connection.execute("commit")

    @staticmethod
    def _undo(transaction: SqliteTransaction) -> None:
        transaction.forget_group()
        if transaction.connection.in_transaction:
            transaction.connection.rollback()


class _Explained:
    """Turns SQLite's errors into JournalError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
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
    folder = files("receiver.journal").joinpath("migrations")
    scripts = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    (version,) = connection.execute("pragma user_version").fetchone()
    if version > len(scripts):
        raise JournalError(
            f"the journal has schema {version}, this promheal knows {len(scripts)}: "
            "it was written by a newer version, which must be used"
        )
    for number, script in enumerate(scripts[version:], version + 1):
        connection.executescript(
            f"begin immediate;\n{script.read_text(encoding='utf-8')}\n"
            f"pragma application_id = {APPLICATION_ID};\npragma user_version = {number};\ncommit;"
        )
