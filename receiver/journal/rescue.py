"""A file that was removed or replaced while it is open: what is stored is saved beside it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from receiver.journal.condition import JournalCondition, JournalState

log: Final = logging.getLogger("promheal.journal")


class Rescue:
    """*backup* writes the whole journal into another database; *run_beside* starts a thread."""

    def __init__(
        self,
        path: Path,
        *,
        backup: Callable[[sqlite3.Connection], None],
        run_beside: Callable[[Callable[[], None], str], None],
    ) -> None:
        self.path = path
        self.loss: JournalCondition | None = None
        """Why nothing can be stored, while the file is gone."""
        self._backup = backup
        self._run_beside = run_beside
        self._losing = threading.Lock()

    def judge(self, problem: str) -> JournalCondition | None:
        """Note that the file has gone, or is back (an empty *problem*); return `loss`."""
        with self._losing:
            if problem and self.loss is None:
                self.loss = JournalCondition(
                    JournalState.GONE,
                    problem,
                    "put it back; it is being saved, so do not end promheal",
                )
                log.error("alerts are answered 503, and nothing acts: %s", self.loss)
                self._run_beside(self._save, "journal-save")
            elif self.loss is not None and not problem:
                self.loss = None
                self._saved_as.unlink(missing_ok=True)
                log.warning("the journal %s is back", self.path)
            return self.loss

    @property
    def _saved_as(self) -> Path:
        return self.path.with_name(self.path.name + ".saved")

    def _save(self) -> None:
        """Write everything that is stored into a file beside the place where it was."""
        there, loss = self._saved_as, self.loss
        remedy = "put it back, or end promheal and put a backup in its place"
        try:
            there.unlink(missing_ok=True)
            with closing(sqlite3.connect(there)) as target:
                self._backup(target)
        except (OSError, sqlite3.Error) as error:
            log.error("what was stored is not saved in %s: %s", there, error)  # noqa: TRY400
        else:
            remedy = (
                f"put it back; or end promheal, and begin with all that was stored until then: "
                f"rm -f {self.path}-wal {self.path}-shm; mv {there} {self.path}"
            )
            log.warning("all that was stored is saved in %s", there)
        with self._losing:
            if self.loss is loss and loss is not None:
                self.loss = JournalCondition(loss.state, loss.problem, remedy)
