"""The file of a journal: is it the one that it should be, is it whole, is it still where it was?"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from receiver.errors import CannotStore, JournalError, UnsoundError
from receiver.journal.leader_lock import LeaderLock, inode
from receiver.journal.marker import Marker, accept, judge, read_marker, write_marker
from receiver.journal.migrate import scripts

log: Final = logging.getLogger("promheal.journal")

APPLICATION_ID: Final = 0x70686C6A
"""Written into the file's header, so that a foreign file is known before anything is touched."""

_PARTS: Final = ("", "-wal", "-shm")
"""What belongs to a database that is open: without one of them it is not what was committed."""
_CONNECT: Final = (
    "pragma busy_timeout = 5000",
    "pragma foreign_keys = on",
    "pragma synchronous = full",  # an answered notification survives a power cut
    "pragma cache_size = -4000",  # KiB: idle memory is a promise
    "pragma temp_store = memory",
)
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_DENIED: Final = {errno.EACCES, errno.EPERM}


class SqliteFile:
    """An open database with its lock and its marker.

    *whole*: read it through before anything is written. *accepting*: open it though it is not the
    journal that was here; `objection` says so. Raises UnsoundError when a person must decide, and
    JournalError when it cannot be opened now.
    """

    def __init__(self, path: Path, *, whole: bool, accepting: bool = False) -> None:
        self.path = path
        self.objection: UnsoundError | None = None
        self._accepting = accepting
        self._place = path.absolute()  # whatever becomes of the current folder
        with ExitStack() as opened, explained(path):
            self._lock = opened.enter_context(closing(LeaderLock(path)))
            with self._objecting():
                self._marker = None
                self._marker = read_marker(path)
                if not path.exists() or path.stat().st_size == 0:
                    judge(path, self._marker, None, empty=True)  # before SQLite makes one
            # Closed after the connections: it would free what they have locked.
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            opened.callback(os.close, self._descriptor)
            self.writer = opened.enter_context(closing(self.connect()))
            self.checked = self._prepare(whole=whole)
            self.reader = opened.enter_context(closing(self.connect()))
            self.reader.execute("select 1 from generation").fetchone()  # opens all its parts
            self._parts = [(part, inode(part.stat())) for part in parts_of(self._place)]
            self._opened = opened.pop_all()  # all is well: they stay open until close()

    def connect(self) -> sqlite3.Connection:
        return connect(self._place)

    def close(self) -> None:
        self._opened.close()

    # -- is it the one that it should be?

    def _prepare(self, *, whole: bool) -> bool:
        """Bring the schema up to date; return whether it was read through, or there was nothing."""
        tables = refuse_foreign(self.writer, self.path)
        known = scripts("sqlite")
        (version,) = self.writer.execute("pragma user_version").fetchone()
        with self._objecting():
            judge(self.path, self._marker, _generation(self.writer), empty=not tables)
        whole = whole or version < len(known)
        if whole and tables:
            check(self.writer, self.path)
        self.writer.execute("pragma journal_mode = wal")
        migrate(self.writer, known, version)
        found = _generation(self.writer)
        if found is not None and self.objection is None:
            self._catch_up(found)
        return whole or not tables

    def mark(self, marker: Marker) -> None:
        """Note durably how far the database has come. Raises OSError when it cannot be written."""
        write_marker(self._place, marker)
        self._marker = marker

    def _catch_up(self, found: Marker) -> None:
        if found == self._marker:
            return
        try:
            self.mark(found)
        except OSError as error:
            # It is less than it could be, and no reason to be without a journal.
            log.warning("the marker of %s was not written: %s", self.path, error.strerror)

    @contextmanager
    def _objecting(self) -> Iterator[None]:
        try:
            yield
        except UnsoundError as error:
            if not self._accepting:
                raise
            self.objection = error

    # -- is it still where it was?

    def moved(self) -> str:
        """Return what was removed or replaced since it was opened, or an empty text.

        Asked before each commit, so it costs no more than a few calls of stat().
        """
        for part, before in self._parts:
            try:
                found = inode(part.stat())
            except FileNotFoundError:
                return f"{part} was removed or moved away while promheal used it"
            except OSError as error:
                return f"{part} cannot be reached any more: {error.strerror}"
            if found != before:
                return f"{part} was replaced while promheal used it"
        return self._lock.keep()

    # -- who acts?

    def lock(self) -> bool:
        """Become, or stay, the process that acts; False while another one is."""
        with explained(self.path):
            return self._lock.acquire(self._descriptor)


def connect(place: Path) -> sqlite3.Connection:
    """Connect to a database that must be there: SQLite would make an empty one."""
    connection = sqlite3.connect(
        f"{place.as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False,
        cached_statements=256,
    )  # fmt: skip
    with ExitStack() as opened:
        opened.enter_context(closing(connection))
        connection.row_factory = sqlite3.Row
        for pragma in _CONNECT:
            connection.execute(pragma)
        opened.pop_all()  # it can be read: it stays open
    return connection


def prepare(path: Path) -> None:
    """Bring a file's schema up to date, and leave nothing open.

    Large ones take a minute, and gunicorn ends a worker that takes longer. Raises UnsoundError for
    a file that is somebody else's, or of a newer version; of all else whoever opens it complains.
    """
    if not path.exists():
        return
    outdated = False
    with suppress(sqlite3.Error), closing(connect(path.absolute())) as connection:
        if refuse_foreign(connection, path):
            (version,) = connection.execute("pragma user_version").fetchone()
            outdated = version < len(scripts("sqlite"))
    if outdated:
        with suppress(JournalError):
            SqliteFile(path, whole=True).close()


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> int:
    """Return how many tables there are. Raises UnsoundError for what this promheal cannot use."""
    (identity,) = connection.execute("pragma application_id").fetchone()
    (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
    if tables and identity != APPLICATION_ID:
        raise UnsoundError(
            f"{path} is a database, but not a journal of promheal; nothing was changed",
            remedy="choose another --storage.url",
        )
    (version,) = connection.execute("pragma user_version").fetchone()
    if version > (known := len(scripts("sqlite"))):
        raise UnsoundError(
            f"the journal has schema {version}, this promheal knows {known}",
            remedy="it was written by a newer version, which must be used",
        )
    return int(tables)


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Read all of it. Raises UnsoundError when it is damaged.

    Acting on a wrong history is worse than not acting, and a later INSERT into a damaged file may
    succeed (measured), so it must be asked for. `quick_check` takes half the time and finds
    half as much of what is smaller than a page (`make damage`).
    """
    (verdict,) = connection.execute("pragma integrity_check(1)").fetchone()
    if verdict != "ok":
        problem = f"{path} is damaged: {' '.join(verdict.split())}"
        raise UnsoundError(problem, remedy=aside(path))


def aside(path: Path) -> str:
    return (
        "end promheal, move it aside with all that belongs to it "
        f"(for f in {path}*; do mv $f $f.damaged; done), and put a backup in its place; then, or "
        f"to go on with an empty one, {accept(path)}"
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the disk into JournalError."""
    try:
        yield
    except CannotStore as error:
        raise JournalError(str(error)) from error
    except sqlite3.OperationalError as error:
        raise JournalError(
            f"{path}: {error}",
            remedy="look whether its disk is full, or can only be read",
        ) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # even what SQLite says of it
        raise UnsoundError(f"{path} is damaged: {error}", remedy=aside(path)) from error
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}", remedy=_remedy(path, error)) from None


def _remedy(path: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return "make room on its disk"
    if error.errno == errno.EROFS:
        return "mount its file system for writing"
    if error.errno in _DENIED:
        return f"let user {os.geteuid()} write into {path.parent}, or choose another --storage.url"
    return "choose another --storage.url"


def _generation(connection: sqlite3.Connection) -> Marker | None:
    """Return what a database says of itself; None from before it did."""
    there = connection.execute("select 1 from sqlite_master where name = 'generation'").fetchone()
    row = there and connection.execute("select journal, checkpoint from generation").fetchone()
    return Marker(journal=row[0], checkpoint=row[1]) if row else None


def migrate(connection: sqlite3.Connection, known: list[str], version: int) -> None:
    """Apply the migrations that are missing, each in one transaction with its number."""
    for number, script in enumerate(known[version:], version + 1):
        connection.executescript(
            f"begin immediate;\n{script}\n"
            f"pragma application_id = {APPLICATION_ID};\npragma user_version = {number};\ncommit;"
        )
        if version:
            log.info("the journal has schema %d now", number)


def parts_of(path: Path) -> list[Path]:
    """Return the files of an open database at *path*, whether they exist or not."""
    return [path.with_name(path.name + suffix) for suffix in _PARTS]
