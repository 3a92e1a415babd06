"""Which journal was here, and how far had it come? A small file beside the database says so.

A database alone cannot tell that it is an older copy, or that it was emptied: SQLite makes a new
one of a file that is missing, and takes a write-ahead log that it cannot read for none. So each
journal has a name of its own, and counts its checkpoints: at most one a second, each first in the
database and then here. A database that has fewer than the marker has lost something.
"""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote
from typing import Final

import msgspec

from receiver.errors import UnsoundError

ABOUT: Final = (
    "promheal's journal beside this file has this name and had come this far; an older, emptied or "
    "other one is refused. See docs/reference/journal.md"
)


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    journal: str
    """The name of a journal: random, and new whenever a loss is accepted."""
    checkpoint: int
    about: str = ABOUT


def marker_path(journal: Path) -> Path:
    """Return where the marker is: not where `mv promheal.db*` takes it along."""
    return journal.with_name(f".{journal.name}.marker")


def read_marker(journal: Path) -> Marker | None:
    """Return the marker of the journal at this path; None when there never was one.

    Raises UnsoundError when it cannot be understood, OSError when it cannot be read.
    """
    path = marker_path(journal)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Marker)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnsoundError(f"{path} is damaged: {error}", remedy=accept(journal)) from None


def write_marker(journal: Path, marker: Marker) -> None:
    """Write it durably, and at one stroke. Raises OSError."""
    path = marker_path(journal)
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(msgspec.json.encode(marker) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have what was renamed or made in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def judge(journal: Path, marker: Marker | None, found: Marker | None, *, empty: bool) -> None:
    """Compare what a database says of itself with the marker beside it.

    *found* is None for a database of a version that had none. Raises UnsoundError with the remedy.
    """
    if marker is None:
        return
    put_back = "put the newest one back, with its -wal file if it has one; or, to go on with "
    if empty:
        raise UnsoundError(
            f"{journal} is missing or empty, and was at checkpoint {marker.checkpoint}",
            remedy=f"{put_back}an empty one, {accept(journal)}",
        )
    if found is not None and found.journal != marker.journal:
        raise UnsoundError(
            f"{journal} is another journal than the one that was here",
            remedy=f"{put_back}this one, {accept(journal)}",
        )
    if found is None or found.checkpoint < marker.checkpoint:
        at = 0 if found is None else found.checkpoint
        raise UnsoundError(
            f"{journal} is older than the journal that was here, or has lost its -wal file: it is "
            f"at checkpoint {at}, and was at {marker.checkpoint}",
            remedy=f"{put_back}this one, {accept(journal)}",
        )


def accept(journal: Path) -> str:
    """Return how a person says that what is lost is lost."""
    return f"accept the loss: promheal journal accept {quote(f'sqlite:///{journal}')} --reason WHY"
