"""A folder of backups: one after the other, each restored once on trial, the oldest removed."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from receiver.errors import UnsoundError
from receiver.journal.backup import Backup, counts, extract, make
from receiver.journal.marker import sync_folder
from receiver.journal.sqlite import SqliteJournal

_NAME: Final = re.compile(r"promheal-(\d{8}T\d{6}Z)\.backup")
_STAMP: Final = "%Y%m%dT%H%M%SZ"


class BackupFolder:
    """*keep*: how many backups stay."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self._keep = keep

    def add(self, journal: Path, *, now: float, version: str, files: Mapping[str, str]) -> Backup:
        """Make a backup, restore it on trial, and only then remove what is more than is kept.

        Raises JournalError; then nothing was removed.
        """
        name = f"promheal-{datetime.fromtimestamp(now, UTC):{_STAMP}}.backup"
        trial = self.folder / f".{name}"
        trial.unlink(missing_ok=True)
        backup = make(journal, trial, now=now, version=version, files=files)
        rehearse(backup)
        path = trial.rename(self.folder / name)
        sync_folder(self.folder)
        for old in self.paths()[: -self._keep]:
            old.unlink(missing_ok=True)
        return msgspec.structs.replace(backup, path=path)

    def paths(self) -> list[Path]:
        """Return the backups that are there, the oldest first, and no other files."""
        with suppress(FileNotFoundError):
            return sorted(one for one in self.folder.iterdir() if _NAME.fullmatch(one.name))
        return []

    def newest(self) -> tuple[float, int] | None:
        """Return when the newest backup was made, by its name, and its size in bytes."""
        for path in reversed(self.paths()):
            found = _NAME.fullmatch(path.name)
            assert found is not None
            with suppress(OSError):
                at = datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC).timestamp()
                return at, path.stat().st_size
        return None


def rehearse(backup: Backup) -> None:
    """Restore a backup into a scratch file, and open that as a journal.

    Raises UnsoundError when it has not the rows that the backup should have.
    """
    with tempfile.TemporaryDirectory(dir=backup.path.parent, prefix=".rehearsal-") as scratch:
        path = Path(scratch) / "promheal.db"
        extract(backup.path, path)
        SqliteJournal(path).close()  # reads it through, and brings its schema up to date
        found = counts(path)
    if found != backup.rows:
        raise UnsoundError(
            f"{backup.path}, restored on trial, has {found} and not {backup.rows}",
            remedy="keep older backups, and look at its disk",
        )
