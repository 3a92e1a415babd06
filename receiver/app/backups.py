"""Scheduled backups of the journal: made where `backup.folder` says, by the process that leads."""

from __future__ import annotations

import logging
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Final

from receiver.app.configuration import CurrentConfig
from receiver.clock import wall
from receiver.journal.backup_folder import BackupFolder
from receiver.reporting.present import BackupState

log: Final = logging.getLogger("promheal.backup")

LOOK_EVERY: Final = 600.0
"""Seconds between looks whether a backup is due, so that a restart does not put it off."""


class Backups:
    def __init__(
        self,
        *,
        current: CurrentConfig,
        folder: Path,
        journal: Path | None,
        leading: threading.Event,
    ) -> None:
        """*folder*: relative paths are below it. *journal*: None where it is no file."""
        self._current = current
        self._folder = folder
        self._journal = journal
        self._leading = leading
        self._newest: tuple[Path, tuple[float, int] | None] | None = None
        """The folder that was looked into last, and the newest backup in it: (time, bytes)."""

    def look_soon(self) -> None:
        """Look for the newest backup, beside: a folder in a network may not answer for long."""
        if self.wanted():
            threading.Thread(target=self._try_to_look, name="backups", daemon=True).start()

    def wanted(self) -> bool:
        return (
            self._journal is not None and self._current.config().settings.backup.folder is not None
        )

    def every(self) -> float:
        return min(LOOK_EVERY, self._current.config().settings.backup.every)

    def run(self) -> None:
        """Make a backup where one is due. Raises JournalError, OSError."""
        kept = self._kept()
        if kept is None or self._journal is None:
            return
        newest, now = self._look(kept), wall()
        if not self._leading.is_set():
            return
        if newest is not None and now < newest[0] + self._current.config().settings.backup.every:
            return
        files = {path.name: path.read_text("utf-8") for path in self._current.files}
        backup = kept.add(self._journal, now=now, version=version("promheal"), files=files)
        self._newest = kept.folder, (now, backup.size)
        log.info("backup made", extra={"file": str(backup.path), "bytes": backup.size})

    def state(self) -> BackupState | None:
        """Return how old the newest backup was when the folder was last looked into.

        None where none are wanted. A folder that does not answer holds up nobody, and its newest
        backup grows old.
        """
        kept, seen = self._kept(), self._newest
        if kept is None or not self.wanted():
            return None
        at, size = (seen[1] if seen and seen[0] == kept.folder else None) or (0.0, 0)
        return BackupState(
            folder=str(kept.folder),
            at=at,
            size=size,
            every=self._current.config().settings.backup.every,
        )

    def _look(self, kept: BackupFolder) -> tuple[float, int] | None:
        newest = kept.newest()
        self._newest = kept.folder, newest
        return newest

    def _try_to_look(self) -> None:
        kept = self._kept()
        try:
            if kept is not None:
                self._look(kept)
        except OSError as error:
            log.warning("the folder of backups cannot be read: %s", error)

    def _kept(self) -> BackupFolder | None:
        settings = self._current.config().settings.backup
        if settings.folder is None:
            return None
        return BackupFolder(self._folder / settings.folder, keep=settings.keep)
