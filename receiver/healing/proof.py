"""Did it heal? One look at Prometheus, and the event that it makes of a run that is verified."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from receiver.clock import Clock
from receiver.config.in_force import Config
from receiver.healing import evidence
from receiver.journal import Journal
from receiver.policy.life import LifeEvent, Occurrence
from receiver.policy.looks import Look, ProofWait, cleared_since, end_of, next_look, wait_of
from receiver.policy.run import Observation, Outcome, Run
from receiver.policy.signal import Signal

_EVENTS: Final = {
    None: LifeEvent.UNDECIDED,
    Outcome.HEALED: LifeEvent.HEALED,
    Outcome.INCONCLUSIVE: LifeEvent.INCONCLUSIVE,
    Outcome.INEFFECTIVE: LifeEvent.INEFFECTIVE,
}


class Verification:
    def __init__(self, *, journal: Journal, clock: Clock, config: Callable[[], Config]) -> None:
        self._journal = journal
        self._clock = clock
        self._config = config

    def look(self, run: Run, *, heals: bool) -> Occurrence:
        """Ask Prometheus about *run*, once. *heals*: a step did what could have healed."""
        plan = run.plan
        assert plan is not None
        assert run.verify_from is not None
        config = self._config()
        wait = wait_of(plan, run.verify_from)
        now = self._clock()
        judgement = evidence.look(
            config.verifier,
            plan,
            acted_at=run.acted_at or run.created_at,
            since=run.verify_from,
        )
        if config.settings.prometheus is None:
            wait = msgspec.structs.replace(wait, deadline=now)  # nobody will ever answer
        look = Look(
            at=now,
            signal=judgement.signal,
            detail=judgement.detail,
            unasked=judgement.unasked,
            lag=judgement.lag,
        )
        cleared = self._cleared(run, look, wait)
        end = end_of(look, plan, wait, cleared, heals=heals)
        return Occurrence(
            event=_EVENTS[end.outcome],
            reason=end.reason,
            until=next_look(now, wait, cleared),
            observation=Observation(
                at=now, verdict=look.signal, value=judgement.value, detail=end.seen
            ),
            doubt=end.doubt,
            forgets_at=end.forgets_at,
        )

    def _cleared(self, run: Run, look: Look, wait: ProofWait) -> float | None:
        """Return since when every look, this one too, has found it cleared; None if not now."""
        if look.signal is not Signal.CLEARED:
            return None
        if not wait.hold:
            return look.at
        before = cleared_since(self._journal.read(lambda t: t.observations(run.id)))
        return look.at if before is None else before
