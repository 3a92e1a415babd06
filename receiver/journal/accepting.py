"""Accept a loss: promheal goes on with the file that is there, because a person said so."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

from receiver.clock import steady_clock
from receiver.errors import RefusedError
from receiver.journal.sqlite import SqliteJournal

BY: Final = "command line"


def accept(path: Path, *, reason: str) -> str:
    """Make the journal at *path* the one that is to be there; return what was accepted.

    Where there is none, an empty one is made. It stands in the audit. Raises RefusedError when a
    promheal acts on it, and JournalError when it is damaged, or not promheal's.
    """
    with closing(SqliteJournal(path, accepting=True)) as journal:
        if not journal.acquire():
            raise RefusedError(f"a promheal acts on {path}: end it, and try again", status=409)
        loss = journal.objection
        if not loss:
            return f"{path} is the journal that was here; there is nothing to accept"
        now = steady_clock(not_before=journal.read(lambda t: t.newest()))()
        journal.begin_anew(
            lambda t: t.put_audit("accept", "journal", by=BY, reason=reason, detail=loss, now=now)
        )
    return f"accepted: {loss}; promheal goes on with {path}"
