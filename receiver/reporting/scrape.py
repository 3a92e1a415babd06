"""What is read at scrape: lifetime totals and the present, from the journal and this process.

What comes from the journal is the same in every replica; what is a process' own differs. While the
journal cannot be read, only the latter is shown, and `promheal_journal_writable` is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager

import msgspec

from receiver.errors import JournalError
from receiver.journal import Journal, Transaction
from receiver.policy.duration import format_duration
from receiver.reporting.families import Family, gauges
from receiver.reporting.journal_metrics import budget_left, of_journal
from receiver.reporting.metrics import NOTIFICATIONS, TOTALS
from receiver.reporting.needs import needs
from receiver.reporting.needs.need import Severity
from receiver.reporting.present import Present, Seen, see
from receiver.reporting.process_metrics import of_process
from receiver.reporting.series import rows

_Total = tuple[str, tuple[str, ...]]
"""(metric, label values)."""


class _Look(msgspec.Struct, frozen=True):
    """What a scrape reads of the journal."""

    seen: Seen
    budgets: Mapping[tuple[str, str], float]


class Scrape:
    def __init__(
        self,
        *,
        journal: Journal,
        present: Callable[[], Present],
        uncounted: Callable[[], AbstractContextManager[Mapping[str, int]]],
        whole: bool = True,
    ) -> None:
        """*uncounted* lends the notifications, by answer, that the journal has not counted yet."""
        self._whole = whole
        self._uncounted = uncounted
        self._journal = journal
        self._present = present

    def collect(self, new: float) -> Iterator[Family]:
        """Yield every family; counters that have come up within *new* seconds, at 0."""
        present = self._present()
        if not self._whole:
            yield from of_process(present, readable=True)
            return
        try:
            with self._uncounted() as uncounted:
                looked = _look(self._journal, present)
        except JournalError:
            yield from of_process(present, readable=False)
            yield _needs(present, None)
        else:
            totals, ages = looked.seen.snapshot.totals, looked.seen.snapshot.ages
            young = {total for total, age in ages.items() if 0 <= age < new}
            yield from self._totals(_with(uncounted, totals), young, present)
            yield from of_journal(looked.seen, looked.budgets, present)
            yield from of_process(present, readable=True)
            yield _needs(present, looked.seen)

    @staticmethod
    def _totals(
        totals: Mapping[_Total, float], young: Collection[_Total], present: Present
    ) -> Iterator[Family]:
        moved: dict[str, dict[tuple[str, ...], float]] = {}
        for (name, values), number in totals.items():
            moved.setdefault(name, {})[values] = number
        unseen: dict[str, set[tuple[str, ...]]] = {}
        for name, values in young:
            unseen.setdefault(name, set()).add(values)
        for total in TOTALS:
            yield Family(
                name=f"promheal_{total.name}",
                help=total.help,
                kind="counter",
                labels=total.labels,
                rows=rows(
                    total,
                    moved.get(total.name, {}),
                    unseen.get(total.name, ()),
                    present.strategies,
                    present.actions,
                    present.channels,
                ),
            )


def _with(uncounted: Mapping[str, int], totals: Mapping[_Total, float]) -> Mapping[_Total, float]:
    """Add the answers that could not be stored yet: on a full disk they are the news."""
    more = {(NOTIFICATIONS.name, (code,)): number for code, number in uncounted.items()}
    return {**totals, **{key: totals.get(key, 0.0) + number for key, number in more.items()}}


def _look(journal: Journal, present: Present) -> _Look:
    def look(transaction: Transaction) -> _Look:
        ran = frozenset(transaction.strategies())
        budgets = {
            (strategy.name, format_duration(window.per)): float(left)
            for strategy in present.strategies
            for window, left in (
                budget_left(transaction, strategy, now=present.now)
                if strategy.name in ran
                else ((window, window.runs) for window in strategy.budget)
            )
        }
        return _Look(see(transaction, present), budgets)

    return journal.read(look)


def _needs(present: Present, seen: Seen | None) -> Family:
    counts = Counter(need.severity for need in needs(present, seen))
    return gauges(
        "needs", "What needs a person, as `promheal status` lists it.", ["severity"],
        (((str(severity),), counts[severity]) for severity in Severity),
    )  # fmt: skip
