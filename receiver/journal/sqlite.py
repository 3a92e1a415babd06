"""The journal in one SQLite file: WAL, `synchronous=FULL`, one writer."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar

from receiver.errors import CannotStore, JournalError, UnsoundError
from receiver.journal.condition import CHECKING, SOUND, JournalCondition, JournalState
from receiver.journal.group import GroupJournal, Work
from receiver.journal.marker import Marker, marker_path
from receiver.journal.rescue import Rescue
from receiver.journal.sqlite_file import SqliteFile, check, explained
from receiver.journal.sqlite_transaction import SqliteTransaction

T = TypeVar("T")

log: Final = logging.getLogger("promheal.journal")

AGAIN: Final = 1.0
"""Seconds between attempts to open a file that cannot be opened."""
MARK_EVERY: Final = 1.0
"""Seconds between checkpoints: so much may be missing from a file without its being noticed."""

_OF_THE_WORK: Final = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)


class SqliteJournal(GroupJournal[SqliteTransaction]):
    """*patient*: open in whatever state the file is, and recover when the file does.

    Then `condition` says why nothing can be stored, or why nothing may act yet; otherwise a file
    that cannot be used raises JournalError. *accepting*: open it even if it is not the one that was
    here.
    """

    def __init__(
        self,
        path: Path,
        *,
        observe_commit: Callable[[float], None] | None = None,
        patient: bool = False,
        accepting: bool = False,
    ) -> None:
        super().__init__(observe_commit=observe_commit)
        self.path = path
        self._condition = CHECKING
        self._file: SqliteFile | None = None
        self._writer: SqliteTransaction | None = None
        self._reader: SqliteTransaction | None = None
        self._checker: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        self._closing = threading.Event()
        self._beside: list[threading.Thread] = []
        self._rescue = Rescue(path, backup=self._back_up, run_beside=self._run_beside)
        self._stored = threading.Event()
        self._changes = 0  # rows that were written before this transaction
        self._commits = 0  # those that changed something
        self._marked = 0  # so many of them stand behind the last checkpoint
        try:
            self._open(SqliteFile(path, whole=not patient, accepting=accepting))
        except JournalError as error:
            if not patient:
                raise
            self._refuse(error)
            self._run_beside(self._mend, "journal-mend")
        self._thread.start()

    @property
    def condition(self) -> JournalCondition:
        if self._file is None or not self._condition.stores or self._closed:
            return self._condition
        moved = self._file.moved()
        if moved or self._rescue.loss:
            return self._rescue.judge(moved) or self._condition
        return self._condition

    @property
    def objection(self) -> str:
        """Why it is not the journal that was here, if it was opened all the same."""
        found = None if self._file is None else self._file.objection
        return "" if found is None else found.problem

    def read(self, work: Callable[[SqliteTransaction], T]) -> T:
        with self._reading, explained(self.path):
            if self._closed:
                raise JournalError("the journal is closed")
            if self._reader is None:
                raise JournalError(str(self._condition))
            connection = self._reader.connection
            connection.execute("begin")  # one snapshot for everything that *work* reads
            try:
                return work(self._reader)
            finally:
                connection.rollback()

    def acquire(self) -> bool:
        return self._file is not None and self.condition.sound and self._file.lock()

    def taken(self) -> bool:
        """Take the lock, though nothing acts before the check has passed."""
        return self._file is not None and self.condition.stores and not self._file.lock()

    def begin_anew(self, note: Callable[[SqliteTransaction], None]) -> None:
        """Accept a loss, and note it: the journal and its marker get a new name."""

        def begin(transaction: SqliteTransaction) -> None:
            transaction.begin_anew()
            note(transaction)

        self.atomically(begin)
        self.mark()

    def mark(self) -> None:
        """Count a checkpoint: durably in the database, and then in the marker beside it."""
        assert self._file is not None

        def count(transaction: SqliteTransaction) -> Marker:
            self._marked = self._commits + 1  # this one, and all in its group
            return transaction.checkpoint()

        self._file.mark(self.atomically(count))

    def close(self) -> None:
        if self._closed:
            return
        self._closing.set()
        self._stored.set()
        for thread in self._beside:
            while thread.is_alive():
                with suppress(sqlite3.ProgrammingError):  # it has just been closed
                    if (checker := self._checker) is not None:
                        checker.interrupt()
                thread.join(0.1)
        if self._commits > self._marked:
            self._try_to_mark()
        super().close()
        if self._file is not None:
            with self._reading:
                self._file.close()

    def _back_up(self, target: sqlite3.Connection) -> None:
        with self._reading:
            assert self._reader is not None
            self._reader.connection.backup(target)

    def _run_beside(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._beside.append(thread)
        thread.start()

    # -- how a transaction begins, ends and is undone

    def _require_open(self) -> None:
        super()._require_open()
        condition = self._condition if self._rescue.loss is None else self.condition
        if not condition.stores:
            raise JournalError(str(condition))

    def _begin(self, batch: list[Work]) -> SqliteTransaction:  # noqa: ARG002  one writer
        if self._writer is None:
            raise CannotStore(str(self._condition))
        self._tell("begin immediate")
        self._changes = self._writer.connection.total_changes
        return self._writer

    def _written(self) -> bool:
        assert self._writer is not None
        return self._writer.connection.total_changes > self._changes

    def _fails(self, error: BaseException) -> bool:
        return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, _OF_THE_WORK)

    def _undo(self) -> None:
        if self._writer is None:
            return
        self._writer.forget_group()
        if self._writer.connection.in_transaction:
            with suppress(sqlite3.Error):  # where it cannot be undone, it is not begun anew
                self._writer.connection.rollback()

    def _tell(self, command: str) -> None:
        assert self._writer is not None
        written = False
        if command == "commit":
            written, condition = self._written(), self.condition
            if not condition.stores:  # nothing is called stored that is in a file that has gone
                raise CannotStore(str(condition))
        try:
            self._writer.connection.execute(command)
        except sqlite3.Error as error:
            raise CannotStore(f"{self.path}: cannot store: {error}") from error
        if written:
            self._commits += 1
            self._stored.set()

    def _end(self) -> None:
        """Close nothing: `close` does, in the right order."""

    # -- is it the right one, and whole?

    def _open(self, file: SqliteFile) -> None:
        self._reader = SqliteTransaction(file.reader, self.path)
        self._file = file
        self._writer = SqliteTransaction(file.writer, self.path)
        self._condition = SOUND if file.checked else CHECKING
        self._run_beside(self._keep_marker, "journal-marker")
        if not file.checked:
            self._run_beside(self._check, "journal-check")

    def _mend(self) -> None:
        """Open it as soon as it can be; where a person must decide, once it has changed."""
        before = self._looks()
        while not self._closing.wait(AGAIN):
            now = self._looks()
            if self._condition.state is JournalState.REFUSED and now == before:
                continue
            before = now
            try:
                self._open(SqliteFile(self.path, whole=False))
            except JournalError as error:
                self._refuse(error)
                continue
            log.warning("the journal %s is open", self.path)
            return

    def _looks(self) -> list[tuple[int, int, int]]:
        """Return what changes when somebody repairs it."""
        found = []
        for path in (
            self.path,
            self.path.with_name(self.path.name + "-wal"),
            marker_path(self.path),
        ):
            with suppress(OSError):
                stat = path.stat()
                found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return found

    def _check(self) -> None:
        assert self._file is not None
        start = monotonic()
        while not self._closing.is_set():
            try:
                with explained(self.path), closing(self._file.connect()) as self._checker:
                    check(self._checker, self.path)
            except UnsoundError as error:
                self._refuse(error)
                return
            except JournalError as error:
                if not self._closing.wait(AGAIN):
                    log.warning("the journal cannot be checked now: %s", error)
                continue
            finally:
                self._checker = None
            self._condition = SOUND
            log.info("the journal is whole", extra={"seconds": round(monotonic() - start, 3)})
            return

    def _refuse(self, error: JournalError) -> None:
        unsound = isinstance(error, UnsoundError)
        state = JournalState.REFUSED if unsound else JournalState.UNAVAILABLE
        condition = JournalCondition(state, error.problem, error.remedy)
        if condition != self._condition:
            log.error("alerts are answered 503, and nothing acts: %s", condition)
        self._condition = condition

    # -- how far has it come?

    def _keep_marker(self) -> None:
        while True:
            self._stored.wait()
            self._stored.clear()
            if self._closing.wait(MARK_EVERY):
                return
            if self._commits > self._marked:
                self._try_to_mark()

    def _try_to_mark(self) -> None:
        try:
            self.mark()
        except (JournalError, OSError) as error:
            self._marked = 0
            log.debug("no checkpoint: %s", error)
