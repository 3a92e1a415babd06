"""How long is it kept? And what the clock showed, which must not go behind what is kept."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from receiver.journal.statements import Statements

_PRUNED: Final = (
    "decisions", "runs", "episodes", "quarantine",
    "breakers", "breaker_events", "pauses", "vetoes", "audit", "configurations",
)  # fmt: skip

_LOADS: Final = 10_000
"""Loads that are kept; a restart in a loop that changes something each time makes no more."""


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """What promheal's clock showed at one moment of the machine's uptime."""

    boot: str
    """Which boot: the kernel's boot id."""
    boottime: float
    """Seconds of CLOCK_BOOTTIME."""
    at: float
    """Seconds since the epoch, by promheal's clock."""


class RetentionRows(Statements):
    pruned: ClassVar[tuple[str, ...]] = ()
    """What this database prunes besides."""

    def prune_inputs(self, *, before: float, limit: int) -> int:
        """Forget what at most *limit* old decisions rested on; return how many these were."""
        return self._changed("prune_inputs", before=before, limit=limit)

    def prune(self, *, before: float, limit: int) -> int:
        """Delete at most *limit* old rows of each kind; return how many went."""
        pruned = sum(
            self._changed(f"prune_{kind}", before=before, limit=limit)
            for kind in (*_PRUNED, *self.pruned)
        )
        return pruned + self._changed("prune_loads", before=before, most=_LOADS, limit=limit)

    def newest(self) -> float:
        """The newest time in the journal; 0 when it is empty."""
        return float(self._one("newest") or 0.0)

    def anchor(self) -> Anchor | None:
        row = self._execute("anchor").fetchone()
        return None if row is None else Anchor(**dict(row))

    def put_anchor(self, anchor: Anchor) -> None:
        self._execute("put_anchor", **msgspec.structs.asdict(anchor))
