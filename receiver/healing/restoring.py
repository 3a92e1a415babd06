"""Puts a backup in the place of a journal, so that nothing acts before a person says so."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from receiver.clock import steady_clock
from receiver.errors import JournalError, RefusedError
from receiver.journal import Transaction
from receiver.journal.backup import Backup, beside, extract, verify
from receiver.journal.leader_lock import LeaderLock
from receiver.journal.marker import Marker, marker_path, read_marker, sync_folder, write_marker
from receiver.journal.sqlite import SqliteJournal
from receiver.journal.sqlite_file import connect, explained
from receiver.policy.breaker import BreakerEvent, Happening, names
from receiver.policy.run import Outcome, State, StepState
from receiver.policy.scope import ALL

BY: Final = "command line"


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    backup: Backup
    unknown: int
    """Runs that were in hand when it was made; what became of them nobody knows."""
    aside: tuple[Path, ...]
    """Where the files are now that were in the way."""


def restore(path: Path, journal: Path, *, reason: str, force: bool, stamp: str) -> Restored:
    """Make the journal of the backup *path* the one at *journal*: paused, until it is resumed.

    What was there is moved aside, with *stamp* in its name. Raises RefusedError when a promheal
    acts on it, or, unless *force*, when it is newer than the backup or another journal;
    UnsoundError for a backup that is damaged; JournalError when it cannot be read or written.
    """
    backup = verify(path)
    with _nobody_acts(journal):
        if not force:
            _refuse_newer(backup, journal)
        scratch = journal.with_name(f".{journal.name}.{os.getpid()}.restored")
        try:
            extract(path, scratch)
            detail = f"backup of {backup.marker.journal} at checkpoint {backup.marker.checkpoint}"
            unknown, marker = _begin_anew(scratch, reason=reason, detail=detail)
            with explained(journal):
                aside = tuple(_move_aside(each, stamp) for each in beside(journal))
                scratch.replace(journal)
                sync_folder(journal.absolute().parent)
                write_marker(journal, marker)
        finally:
            for left in (*beside(scratch), marker_path(scratch), _lock_of(scratch)):
                left.unlink(missing_ok=True)
    return Restored(backup=backup, unknown=unknown, aside=aside)


def settle(transaction: Transaction, *, reason: str, detail: str, now: float) -> int:
    """Write into a restored journal what follows from its being one; return the runs in hand.

    What was in hand is unknown, everything is paused, and the audit says why.
    """
    unknown = 0
    for _, number, state in transaction.unfinished_runs():
        run = transaction.run(number)
        if run is None or state is State.PENDING:
            continue
        unknown += 1
        for step in run.steps:
            if step.state is StepState.STARTED:
                ended = msgspec.structs.replace(
                    step, state=StepState.UNKNOWN, finished_at=now, error="restored from a backup"
                )
                transaction.put_step(run.id, ended)
        for name in names(run.strategy, run.target):
            transaction.happen(name, Happening(event=BreakerEvent.RELEASE, at=now, run=run.id))
        transaction.finish(run, Outcome.UNKNOWN, "it was in hand when the backup was made", now=now)
    transaction.put_pause(ALL, reason=f"restored: {reason}", by=BY, now=now, until=None)
    transaction.put_audit("restore", "journal", by=BY, reason=reason, now=now, detail=detail)
    return unknown


def _begin_anew(scratch: Path, *, reason: str, detail: str) -> tuple[int, Marker]:
    """Settle a journal that no promheal knows yet, under a new name; return runs and marker."""
    with closing(SqliteJournal(scratch)) as journal:
        now = steady_clock(not_before=journal.read(lambda t: t.newest()))()
        unknown = journal.atomically(lambda t: settle(t, reason=reason, detail=detail, now=now))
        journal.begin_anew(lambda _: None)
    marker = read_marker(scratch)
    assert marker is not None  # `begin_anew` wrote it
    return unknown, marker


@contextmanager
def _nobody_acts(journal: Path) -> Iterator[None]:
    """Keep others from acting on *journal*. Raises RefusedError where one does."""
    with ExitStack() as opened, explained(journal):
        lock = opened.enter_context(closing(LeaderLock(journal)))
        database = None
        if journal.exists():
            database = os.open(journal, os.O_RDWR | os.O_CLOEXEC)
            opened.callback(os.close, database)
        if not lock.acquire(database):
            raise RefusedError(f"a promheal acts on {journal}: end it, and try again", status=409)
        yield


def _refuse_newer(backup: Backup, journal: Path) -> None:
    found = _found(journal)
    if found is None:
        return
    if found.journal != backup.marker.journal:
        why = "is another journal than the one of the backup"
    elif found.checkpoint > backup.marker.checkpoint:
        why = (
            f"is newer than the backup: it is at checkpoint {found.checkpoint}, the backup at "
            f"{backup.marker.checkpoint}"
        )
    else:
        return
    raise RefusedError(
        f"{journal} {why}; nothing was changed. To lose what only it knows, add --force",
        status=409,
    )


def _found(journal: Path) -> Marker | None:
    """Return what the journal that is there says of itself; None where it cannot be read."""
    with suppress(sqlite3.Error, JournalError, TypeError), closing(connect(journal)) as found:
        row = found.execute("select journal, checkpoint from generation").fetchone()
        return Marker(journal=row[0], checkpoint=row[1])
    return None


def _move_aside(path: Path, stamp: str) -> Path:
    target = path.with_name(f"{path.name}.before-restore-{stamp}")
    if target.exists():
        raise JournalError(f"{target} exists; move it away, and try again")
    return path.rename(target)


def _lock_of(journal: Path) -> Path:
    return journal.with_name(journal.name + ".lock")
