"""What did promheal do? `healing_log.jsonl`: one JSON line for each run that acted and has ended.

The journal knows which runs have no line yet, so none is forgotten, whatever ends promheal or fills
the disk; and the end of the file is looked at before a doubtful line is written a second time.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from receiver.errors import JournalError
from receiver.journal import Journal, Transaction
from receiver.log import escape
from receiver.policy.alert import Alert
from receiver.policy.guards.situation import Reason
from receiver.policy.run import Doubt, Outcome, Phase, Run, StepState
from receiver.policy.target import Key
from receiver.redaction import redact_json
from receiver.reporting import rotating_file
from receiver.settings import HealingLogSettings

log: Final = logging.getLogger("promheal.healing_log")

MAX_TEXT: Final = 300
"""Characters of a text; labels are as long as their sender likes."""
BATCH: Final = 64
"""Lines that are written, and marked as written, together."""
BATCHES: Final = 100
"""Batches in one call: whoever calls after a long outage is not held up for all of it."""
MOST_UNTOLD: Final = 1_000
"""Lines without a run that wait in memory while the file cannot be written."""
TOLD_EVERY: Final = 3_600.0  # seconds


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line, its fields in the order in which they are written."""

    timestamp: str
    """When the run ended, in UTC: `2026-01-31T12:00:00.000Z`."""
    strategy: str
    metric: str
    """The alert's label `metric`, or its name where it has none."""
    value: float | None
    """What the expression returned when it was decided, else what the alert said; or None."""
    severity: str
    actions_executed: int
    """Steps that were done, those of a rollback not among them."""
    actions_total: int
    """Steps of the plan, those too that were skipped for this alert."""
    success: bool
    """The outcome is `healed`."""
    dry_run: bool
    """Nothing was done: it would have been."""
    run: int | None = None
    target: str
    outcome: Outcome | None = None
    reason: str
    fingerprint: str
    duration_seconds: float | None = None
    """From the first step to the outcome: the verification and the rollback too."""
    rolled_back: bool = False
    """Whether all that had been done was undone."""
    doubt: Doubt | None = None
    """Why it is inconclusive."""
    relapsed: bool = False
    """It fired again so soon that the heal is known not to have held, when the line was written."""


class _Id(msgspec.Struct, frozen=True):
    """What tells a run from that of another journal, whose numbers begin with 1 too."""

    run: int | None = None
    timestamp: str = ""


_decode_id: Final = msgspec.json.Decoder(_Id).decode
_NO_LINE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def line_of(run: Run, alert: Alert | None = None) -> Line:
    """Return the line of a run that has ended.

    *alert* is what it was about, for a run that failed before it could be planned.
    """
    assert run.finished_at is not None
    about: Mapping[str, Any] = {}
    if run.plan is not None:
        about = run.plan.alert
    elif alert is not None:
        about = msgspec.structs.asdict(alert)
    planned = run.plan
    began = run.finished_at if run.acted_at is None else run.acted_at
    return _line(
        Key(run.strategy, run.target),
        about,
        at=run.finished_at,
        value=None if planned is None else planned.value,
        actions_executed=sum(
            step.phase is Phase.RUN and step.state is StepState.DONE for step in run.steps
        ),
        actions_total=0 if planned is None else len(planned.steps),
        success=run.outcome is Outcome.HEALED,
        dry_run=False,
        run=run.id,
        outcome=run.outcome,
        reason=_cut(run.reason),
        duration_seconds=round(max(0.0, run.finished_at - began), 3),
        rolled_back=run.cause is not None and run.outcome is not Outcome.ROLLBACK_FAILED,
        doubt=run.doubt,
        relapsed=run.relapsed_at is not None,
    )


def would_have(key: Key, alert: Alert, *, value: float | None, actions: int, now: float) -> Line:
    """Return the line of what is not done because promheal was started with `--dry-run`.

    *value* is the expression's, and *actions* the number of the strategy's steps.
    """
    return _line(
        key,
        msgspec.structs.asdict(alert),
        at=now,
        value=value,
        actions_executed=0,
        actions_total=actions,
        success=False,
        dry_run=True,
        reason=str(Reason.DRY_RUN),
    )


def _line(
    key: Key, about: Mapping[str, Any], *, at: float, value: float | None, **fields: Any
) -> Line:
    labels = about.get("labels", {})
    return Line(
        timestamp=timestamp(at),
        strategy=_cut(key.strategy),
        metric=_cut(labels.get("metric") or labels.get("alertname", "")),
        value=_number(about.get("annotations", {}).get("value") if value is None else value),
        severity=_cut(labels.get("severity", "")),
        target=_cut(key.target),
        fingerprint=about.get("fingerprint", ""),
        **fields,
    )


def timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _number(value: float | str | None) -> float | None:
    """Return what JSON has a number for: an alert's own value is a text, of any kind."""
    try:
        number = math.nan if value is None else float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def encode(line: Line) -> bytes:
    """Return the line as JSON, with its end; nothing in it ends a line or steers a terminal."""
    return escape(redact_json(msgspec.json.encode(line).decode())).encode() + b"\n"


def line_in(transaction: Transaction, run_id: int) -> Line | None:
    """Return the line of a run of the journal; None when it is not there any more."""
    run = transaction.run(run_id)
    if run is None:
        return None
    episode = transaction.episode(run.episode) if run.plan is None else None
    return line_of(run, None if episode is None else episode.alert)


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
        self._told: float | None = None
        self._wanted = threading.Event()
        self._writing = threading.Lock()
        # Only appended to by those who add, and only shortened by the one who writes.
        self._untold: list[Line] = []
        # Runs, with their end, that stand in the file though the journal does not know it. None:
        # the file must be asked, since this or an earlier process may have ended in between.
        self._doubtful: frozenset[_Id] | None = None

    def add(self, line: Line) -> None:
        """Append a line without a run. It is not kept across a restart. Raises nothing."""
        if len(self._untold) < MOST_UNTOLD:
            self._untold.append(line)
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
                self._tell(error)
            finally:
                self._writing.release()

    def _batch(self) -> bool:
        """Write a batch, no further than the file has room; True when there is more."""
        name = self._settings().file
        path = None if name is None else self._folder / name
        untold = self._untold[:BATCH]
        lines = untold + self._journal.read(_unlogged)[: BATCH - len(untold)]
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

    def _done(self, lines: Sequence[Line]) -> None:
        runs = [line.run for line in lines if line.run is not None]
        del self._untold[: len(lines) - len(runs)]
        if runs:
            self._journal.atomically(lambda transaction: transaction.logged(runs))

    def _append(self, path: Path, lines: Sequence[Line]) -> int:
        """Append the lines that the file has room for, and return their number.

        None of them: the file was full, and a new one is to be begun.
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

    def _tell(self, error: Exception) -> None:
        now = self._uptime()
        if self._told is None or now - self._told >= TOLD_EVERY:
            self._told = now
            log.error(
                "the healing log is not written; its lines wait in the journal: %s",
                error,
                exc_info=None if isinstance(error, (OSError, JournalError)) else error,
            )


def _unlogged(transaction: Transaction) -> list[Line]:
    lines = [line_in(transaction, run) for run in transaction.unlogged(limit=BATCH)]
    return [line for line in lines if line is not None]


def _written(path: Path) -> frozenset[_Id]:
    """Return which runs the last lines of the file are about."""
    found = set()
    with rotating_file.opened(path) as file:
        _mend(file)
        for text in rotating_file.tail(file).splitlines():
            with suppress(*_NO_LINE):
                found.add(_decode_id(text))
    return frozenset(found)


def _mend(file: int) -> int:
    """Have the file end with the end of a line, and return its size.

    We may have died in the middle of one: its run is not marked as written, so it is cut off.
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
    return size + os.write(file, b"\n")  # somebody's editor: nothing of it is lost
