"""What did promheal do? `healing_log.jsonl`: one JSON line for each run that acted and has ended.

The journal knows which runs have no line yet, so none is lost, whatever ends promheal or fills the
disk; and before a line is written that may be there already, the end of the file is read.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from receiver.errors import JournalError
from receiver.journal import OWN, Journal, Transaction
from receiver.reporting import rotating_file
from receiver.reporting.healing_log_line import HealingLogLine, encode, line_in
from receiver.settings import HealingLogSettings

log: Final = logging.getLogger("promheal.healing_log")

BATCH: Final = 64
"""Lines that are written, and marked as written, together."""
BATCHES: Final = 100
"""Batches in one call: whoever calls after a long outage is not held up for all of it."""
MOST_PENDING: Final = 1_000
"""Lines without a run that wait in memory while the file cannot be written."""
LOG_EVERY: Final = 3_600.0
"""Seconds between two log lines about a file that cannot be written."""


class _Id(msgspec.Struct, frozen=True):
    """Identifies a run, also among those of an earlier journal, whose ids began with 1 too."""

    run: int | None = None
    timestamp: str = ""


_decode_id: Final = msgspec.json.Decoder(_Id).decode
_NO_LINE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class HealingLog:
    """The file. Used by any thread, of which one at a time writes, for the others too."""

    def __init__(
        self,
        *,
        journal: Journal,
        settings: Callable[[], HealingLogSettings],
        folder: Path,
        uptime: Callable[[], float] = time.monotonic,
    ) -> None:
        """*settings* is asked each time: a reload may change it. Its file is in *folder*."""
        self._journal = journal
        self._settings = settings
        self._folder = folder
        self._uptime = uptime
        self._logged_at: float | None = None
        self._wanted = threading.Event()
        self._writing = threading.Lock()
        # Only appended to by those who add, and only shortened by the one who writes.
        self._pending: list[HealingLogLine] = []
        # Runs whose lines are in the file, though the journal does not know it yet. None: unknown,
        # so the file is read, since a process may have ended between the line and the commit.
        self._doubtful: frozenset[_Id] | None = None

    def add(self, line: HealingLogLine) -> None:
        """Append a line without a run. It is not kept across a restart. Raises nothing."""
        if len(self._pending) < MOST_PENDING:
            self._pending.append(line)
        self.write()

    def write(self) -> None:
        """Append the lines of all runs that have ended and have none yet. Raises nothing.

        Nobody waits for a thread that writes already: that one comes back for what is new.
        """
        self._wanted.set()
        for _ in range(BATCHES):
            if not self._wanted.is_set() or not self._writing.acquire(blocking=False):
                return
            try:
                self._wanted.clear()
                if self._batch():
                    self._wanted.set()
            except Exception as error:  # noqa: BLE001  whoever heals must not fail for its log
                self._log(error)
            finally:
                self._writing.release()

    def _batch(self) -> bool:
        """Write a batch, as far as the file has room; True when there is more."""
        name = self._settings().file
        path = None if name is None else self._folder / name
        pending = self._pending[:BATCH]
        lines = pending + self._journal.read(_unlogged)[: BATCH - len(pending)]
        if path is None:
            self._done(lines)
            return len(lines) == BATCH
        doubtful = self._doubtful
        if doubtful is None:
            doubtful = _written(path) if lines else frozenset()
        written = [line for line in lines if line.run and _Id(line.run, line.timestamp) in doubtful]
        if written:
            self._done(written)
            self._doubtful = doubtful
            return True
        self._doubtful = None  # until the journal knows as well
        appended = self._append(path, lines)
        self._done(lines[:appended])
        self._doubtful = doubtful if len(lines) == BATCH else frozenset()
        return appended < len(lines) or len(lines) == BATCH

    def _done(self, lines: Sequence[HealingLogLine]) -> None:
        runs = [line.run for line in lines if line.run is not None]
        del self._pending[: len(lines) - len(runs)]
        if runs:
            self._journal.atomically(lambda transaction: transaction.logged(runs), OWN)

    def _append(self, path: Path, lines: Sequence[HealingLogLine]) -> int:
        """Append the lines that the file has room for, and return their number.

        When it is 0, the file was full and has been rotated.
        """
        if not lines:
            return 0
        settings = self._settings()
        with rotating_file.opened(path) as file:
            size = before = _mend(file)
            texts = []
            for line in lines:
                text = encode(line)
                if size and size + len(text) > settings.max_bytes:
                    break
                texts.append(text)
                size += len(text)
            if texts:
                rotating_file.write(file, b"".join(texts), before)
            else:
                rotating_file.rotate(path, settings.keep)
        if not texts or not before:
            rotating_file.sync(path.parent)
        return len(texts)

    def _log(self, error: Exception) -> None:
        now = self._uptime()
        if self._logged_at is None or now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            log.error(
                "the healing log is not written; its lines wait in the journal: %s",
                error,
                exc_info=None if isinstance(error, (OSError, JournalError)) else error,
            )


def _unlogged(transaction: Transaction) -> list[HealingLogLine]:
    lines = [line_in(transaction, run) for run in transaction.unlogged(limit=BATCH)]
    return [line for line in lines if line is not None]


def _written(path: Path) -> frozenset[_Id]:
    """Return the runs of the last lines of the file."""
    found = set()
    with rotating_file.opened(path) as file:
        _mend(file)
        for text in rotating_file.tail(file).splitlines():
            with suppress(*_NO_LINE):
                found.add(_decode_id(text))
    return frozenset(found)


def _mend(file: int) -> int:
    """Cut off a line that was not completed, and return the file's size.

    promheal may have died while writing it: its run is not marked as written, so it comes again.
    """
    size = os.fstat(file).st_size
    if not size or os.pread(file, 1, size - 1) == b"\n":
        return size
    torn = rotating_file.tail(file).rpartition(b"\n")[2]
    try:
        _decode_id(torn)
    except _NO_LINE:
        if torn.startswith(b'{"timestamp":'[: len(torn)]):
            os.ftruncate(file, size - len(torn))
            return size - len(torn)
    return size + os.write(file, b"\n")  # not ours, an editor's: keep it
