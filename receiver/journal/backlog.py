"""What is to be considered: keys that fire or have a run in hand, and what runs wait for."""

from __future__ import annotations

from receiver.journal.runs import run_in
from receiver.journal.statements import Statements
from receiver.policy.run import Run, State
from receiver.policy.target import Key


class BacklogRows(Statements):
    def keys(self) -> set[Key]:
        """Everything that fires for a strategy, and every unfinished run."""
        return {*self._keys("all_wanted"), *self._keys("unfinished_keys")}

    def unfinished_runs(self) -> list[tuple[Key, int, State]]:
        """Every run that has no outcome yet, as (key, id, state), oldest first."""
        found = [
            (Key(row[0], row[1]), row[2], State(row[3])) for row in self._execute("unfinished_runs")
        ]
        return sorted(found, key=lambda one: one[1])

    def known_targets(self) -> list[str]:
        """Every target that fires, or of which a run or a decision is remembered."""
        return [row[0] for row in self._execute("known_targets")]

    def pending_on(self, target: str) -> list[Key]:
        """What waits for this target, or for something else before it acts on it."""
        return self._keys("pending_on_target", target=target)

    def pending_for(self, reason: str) -> list[Key]:
        """What waits for this reason, oldest first."""
        return self._keys("pending_for", reason=reason)

    def next_pending(self, reason: str) -> Key | None:
        """The first of `pending_for`."""
        return next(iter(self._keys("next_pending", reason=reason)), None)

    def pending_runs(self, reason: str, *, limit: int) -> list[Run]:
        """The runs that wait for this reason, oldest first, without their steps."""
        return [run_in(row) for row in self._execute("pending_runs", reason=reason, limit=limit)]

    def _keys(self, query: str, **values: str) -> list[Key]:
        return [Key(row[0], row[1]) for row in self._execute(query, **values)]
