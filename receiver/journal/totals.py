"""What metrics and status show: lifetime counters, and how many there are of everything now."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from receiver.journal.statements import json_text
from receiver.journal.workers import Worker, WorkerRows
from receiver.policy.role import LEASE

_Total = tuple[str, tuple[str, ...]]
"""(metric, label values)."""

_decode = msgspec.json.decode


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What the metrics and the status show of the present."""

    totals: Mapping[_Total, float]
    """Lifetime counters by (metric, label values)."""
    ages: Mapping[_Total, float]
    """For how many seconds there is each of them, by the database's clock."""
    firing: Mapping[str, int]
    """Open episodes by strategy."""
    open_alerts: int
    in_progress: Mapping[str, int]
    """Runs that hold a target, by strategy."""
    states: Mapping[str, int]
    """Unfinished runs by state."""
    waiting: Mapping[str, int]
    """Pending runs by what they wait for."""
    workers: tuple[Worker, ...]
    """The living processes that carry work, where there may be several."""
    without_worker: int
    """Unfinished runs whose steps nobody would execute now."""
    size_bytes: int


class TotalRows(WorkerRows):
    """Counters are summed up in memory, and written once for each group of transactions."""

    def __init__(self) -> None:
        self._counting: list[tuple[_Total, float]] = []  # by the piece of work that is running
        self._counts: dict[_Total, float] = {}  # by those of the transaction that have succeeded

    def count(self, metric: str, *labels: str, by: float = 1) -> None:
        """Add to a lifetime counter."""
        self._counting.append(((metric, labels), by))

    def keep_counts(self) -> None:
        """The piece of work has succeeded: what it counted belongs to the group."""
        for total, by in self._counting:
            self._counts[total] = self._counts.get(total, 0.0) + by
        self._counting.clear()

    def forget_counts(self) -> None:
        """The piece of work has failed."""
        self._counting.clear()

    def write_counts(self) -> None:
        for (metric, labels), by in sorted(self._counts.items()):
            self._execute("count_total", metric=metric, labels=json_text(labels), value=by)
        self._counts.clear()

    def forget_group(self) -> None:
        """The transaction has failed, and what it counted has not happened."""
        self._counting.clear()
        self._counts.clear()

    def stats(self) -> Stats:
        totals: dict[_Total, float] = {}
        ages: dict[_Total, float] = {}
        for metric, labels, value, age in self._execute("totals"):
            total = metric, tuple(_decode(labels))
            totals[total], ages[total] = value, age
        return Stats(
            totals=totals,
            ages=ages,
            firing=self._numbers("firing_by_strategy"),
            open_alerts=self._one("open_alerts"),
            in_progress=self._numbers("in_progress"),
            states=self._numbers("states"),
            waiting=self._numbers("waiting_for"),
            workers=tuple(self.workers()),
            without_worker=self._one("without_worker", lease=LEASE),
            size_bytes=self._one("size"),
        )

    def _numbers(self, query: str) -> dict[str, int]:
        return {row[0]: row[1] for row in self._execute(query)}
