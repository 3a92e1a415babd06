"""What earlier runs mean for the next one: what the guards rest on, and how far it may spread."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from receiver.journal.breakers import breaker_in, dormancy_in
from receiver.journal.operators import ActivePause, pause_in
from receiver.journal.runs import run_in
from receiver.journal.statements import Statements
from receiver.policy.breaker import Breaker, names
from receiver.policy.dormancy import Dormancy
from receiver.policy.run import Outcome, Run
from receiver.policy.target import Key


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What the guards rest on."""

    holder: int | None
    holder_reason: str
    acting: int
    last_end: float | None
    last_healed: float | None
    last_outcome: Outcome | None
    """How the last run that acted on this target ended."""
    forgets_at: float | None
    """Of the last run of this strategy that acted on it."""
    restored_at: float | None
    """When the journal was restored from a backup."""
    starts: tuple[float, ...]
    dormancy: Dormancy
    pauses: tuple[ActivePause, ...]
    """The oldest first."""
    veto: str
    """Who said no and why, while anything fires that it was said to; else nothing."""
    breakers: tuple[tuple[str, Breaker], ...]
    """The main one, the strategy's and the target's, by name."""
    touched: int
    """Runs of the strategy that hold a target, or have begun lately; no more than asked for."""


class Affected(msgspec.Struct, frozen=True):
    """How many targets of one strategy are affected, counted no further than needed."""

    targets: int
    treated: int
    """Of these, others than the asking one that are being healed, or were in vain."""


class HistoryRows(Statements):
    def history(
        self, key: Key, *, now: float, but: int, since: float, most: int, lately: float
    ) -> History:
        """Return what other runs (not *but*) did on this target, and all else that stops us.

        Starts after *since*; *most* runs of the strategy that began after *lately* are enough.
        """
        strategy, target = key
        first, second, third = names(*key)
        # In a pipeline all queries are sent before the first answer is waited for.
        seen = self._execute("history", strategy=strategy, target=target, but=but)
        starts = self._execute("starts", strategy=strategy, target=target, since=since)
        dormancy = self._execute("dormancy")
        pauses = self._execute("pauses", now=now)
        veto = self._execute("veto", strategy=strategy, target=target)
        known = self._execute("breakers_named", first=first, second=second, third=third)
        touched = self._execute("touched", strategy=strategy, most=most, since=lately)
        row, no, few = seen.fetchone(), veto.fetchone(), touched.fetchone()
        assert row is not None
        assert few is not None
        ended = row["last_outcome"]
        breakers = {one["name"]: breaker_in(one) for one in known}
        return History(
            holder=row["holder"],
            holder_reason=row["holder_reason"] or "",
            acting=row["acting"],
            last_end=row["last_end"],
            last_healed=row["last_healed"],
            restored_at=row["restored_at"],
            last_outcome=None if ended is None else Outcome(ended),
            forgets_at=row["forgets_at"],
            starts=tuple(start[0] for start in starts),
            dormancy=dormancy_in(dormancy.fetchone()),
            pauses=tuple(pause_in(one) for one in pauses),
            veto="" if no is None else f"{no['by']}: {no['reason']}",
            breakers=tuple(
                (name, breakers.get(name, Breaker())) for name in (first, second, third)
            ),
            touched=few[0],
        )

    def affected(self, key: Key, *, limit: int, since: float) -> Affected:
        """How many targets are affected for a strategy; *limit* and one more are enough to know.

        Treated in vain are those that were acted on after *since* and fire all the same.
        """
        strategy, target = key
        firing = self._one("affected", strategy=strategy, most=limit + 1)
        held = self._one("held_and_well", strategy=strategy)
        if firing + held <= limit:
            return Affected(firing + held, 0)
        treated = self._one("treated", strategy=strategy, target=target, since=since)
        return Affected(firing + held, treated)

    def latest_starts(self, key: Key, *, since: float) -> list[float]:
        """When the strategy last began on each other target, oldest first, after *since*."""
        rows = self._execute("latest_starts", strategy=key.strategy, target=key.target, since=since)
        return [row[0] for row in rows]

    def most_starts(self, strategy: str, *, since: float) -> int:
        """Return the highest number of starts on any single target after *since*."""
        return int(self._one("most_starts", strategy=strategy, since=since))

    # -- heals that did not hold, and proofs that never came

    def doubtful(self, key: Key) -> int:
        """How many runs of *key* have ended inconclusive since one was proven, either way.

        Those only that count: neither those for which Prometheus could not be asked, nor those
        that had nothing to prove.
        """
        return int(self._one("doubtful", strategy=key.strategy, target=key.target))

    def last_heal(self, key: Key) -> Run | None:
        """The last run of *key* that healed, unless its heal is known not to have held."""
        row = self._execute("last_heal", strategy=key.strategy, target=key.target).fetchone()
        return None if row is None else run_in(row)

    def put_relapse(self, run: int, now: float) -> None:
        """Note that a heal has not held."""
        self._execute("put_relapse", id=run, now=now)

    def relapses(self, *, since: float) -> Mapping[Key, int]:
        """How many heals are known since then not to have held, by what they had healed."""
        return {Key(row[0], row[1]): row[2] for row in self._execute("relapses", since=since)}

    def unhealed(self, *, limit: int) -> list[Run]:
        """Return the last run on each target that acted in vain, while its alert fires.

        Newest first, without their steps. An alert that came after its end is another matter.
        """
        return [run_in(row) for row in self._execute("unhealed", limit=limit)]
