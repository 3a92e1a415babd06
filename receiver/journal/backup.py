"""Backups of a journal in SQLite: made beside a promheal that runs, and verified.

A backup is one file: the journal as it was at one moment, and beside its tables those that say
which moment that was, how many rows each table had, and what the configuration was.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from receiver.errors import JournalError, RefusedError, UnsoundError
from receiver.journal.copying import TABLES
from receiver.journal.marker import Marker, sync_folder
from receiver.journal.sqlite_file import connect, explained, parts_of, refuse_foreign

_ABOUT: Final = """
    create table backup (
        made_at real not null, version text not null, rows text not null
    );
    create table backup_file (name text primary key, content text not null)
"""
_OWN_TABLES: Final = ("backup", "backup_file")
_ANOTHER: Final = "take another backup"


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of itself."""

    path: Path
    made_at: float
    """Seconds since the epoch, by the wall clock."""
    version: str
    """Of the promheal that made it."""
    rows: dict[str, int]
    """How many each table of the journal had."""
    marker: Marker
    """Which journal it was, and how far it had come."""
    size: int
    """Bytes of the file."""
    files: tuple[str, ...] = ()
    """Names of the configuration's files that are in it."""


def make(
    journal: Path, target: Path, *, now: float, version: str, files: Mapping[str, str]
) -> Backup:
    """Write a backup of the journal at *journal* to *target*, and return it verified.

    *files*: the configuration's, by name. The journal may be in use; what is committed later is not
    in the backup. *target* appears complete or not at all. Raises RefusedError when it exists, and
    JournalError when either cannot be read or written.
    """
    if target.exists():
        raise RefusedError(f"{target} exists; choose another name, or remove it", status=409)
    if not journal.exists():
        raise JournalError(f"there is no journal {journal}")
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        _private(scratch)
    except OSError as error:
        remedy = "choose another place for the backup"
        raise JournalError(f"{target}: {error.strerror}", remedy=remedy) from None
    try:
        with explained(target):
            with closing(connect(journal.absolute())) as source:
                refuse_foreign(source, journal)
                source.execute("begin")  # one snapshot for the copy and the counts
                rows = _rows(source)
                _copy(source, scratch, (now, version, rows), files)
            backup = verify(scratch)
            if target.exists():
                raise RefusedError(f"{target} exists; choose another name", status=409)
            scratch.replace(target)
            sync_folder(target.absolute().parent)
    finally:
        scratch.unlink(missing_ok=True)
    return msgspec.structs.replace(backup, path=target)


def verify(path: Path) -> Backup:
    """Read all of a backup. Raises UnsoundError when it is none, or is not what was written."""
    if not path.exists():
        raise JournalError(f"there is no backup {path}")
    with _opened(path) as connection:
        refuse_foreign(connection, path)
        try:
            made_at, version, said = connection.execute("select * from backup").fetchone()
        except (sqlite3.OperationalError, TypeError):
            raise UnsoundError(
                f"{path} is not a backup of promheal", remedy="make one with `promheal backup`"
            ) from None
        (verdict,) = connection.execute("pragma integrity_check(1)").fetchone()
        rows = _rows(connection)
        if verdict != "ok" or rows != (counted := msgspec.json.decode(said, type=dict[str, int])):
            why = verdict if verdict != "ok" else f"it has {rows}, and had {counted}"
            raise UnsoundError(f"{path} is damaged: {why}", remedy=_ANOTHER)
        marker = connection.execute("select journal, checkpoint from generation").fetchone()
        names = connection.execute("select name from backup_file order by 1").fetchall()
    return Backup(
        path=path,
        made_at=made_at,
        version=version,
        rows=rows,
        marker=Marker(journal=marker[0], checkpoint=marker[1]),
        size=path.stat().st_size,
        files=tuple(row[0] for row in names),
    )


def extract(backup: Path, target: Path) -> None:
    """Write the journal that is in a backup to *target*, which must not exist."""
    with explained(target):
        _private(target)
        with _opened(backup) as source, closing(sqlite3.connect(target)) as into:
            source.backup(into)
            for table in _OWN_TABLES:
                into.execute(f"drop table {table}")
            into.commit()
        _sync(target)


def counts(path: Path) -> dict[str, int]:
    """Return how many rows each table of a journal or a backup has."""
    with _opened(path) as connection:
        return _rows(connection)


def configuration(backup: Path) -> dict[str, str]:
    """Return the texts of the configuration's files that are in a backup, by name."""
    with _opened(backup) as connection:
        return {row[0]: row[1] for row in connection.execute("select * from backup_file")}


def _copy(
    source: sqlite3.Connection,
    target: Path,
    about: tuple[float, str, dict[str, int]],
    files: Mapping[str, str],
) -> None:
    made_at, version, rows = about
    with closing(sqlite3.connect(target)) as into:
        source.backup(into)
        into.execute("pragma journal_mode = delete")  # one file, without a log beside it
        into.executescript(_ABOUT)
        counts = msgspec.json.encode(rows).decode()
        into.execute("insert into backup values (?, ?, ?)", (made_at, version, counts))
        into.executemany("insert into backup_file values (?, ?)", sorted(files.items()))
        into.commit()
    _sync(target)


def _rows(connection: sqlite3.Connection) -> dict[str, int]:
    there = {row[0] for row in connection.execute("select name from sqlite_master")}
    return {
        table: connection.execute(f"select count(*) from {table}").fetchone()[0]  # noqa: S608
        for table in TABLES
        if table in there  # a backup that an older version made has fewer
    }


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a backup to read it, changing nothing beside it."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with explained(path), closing(sqlite3.connect(uri, uri=True)) as connection:
            yield connection
    except UnsoundError as error:
        if isinstance(error.__cause__, sqlite3.DatabaseError):  # not what is done with a journal
            raise UnsoundError(error.problem, remedy=_ANOTHER) from None
        raise


def _private(path: Path) -> None:
    """Make an empty file that only its owner may read: a configuration may hold secrets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def beside(journal: Path) -> list[Path]:
    """Return the files of the journal at *journal* that exist."""
    return [part for part in parts_of(journal) if part.exists()]
