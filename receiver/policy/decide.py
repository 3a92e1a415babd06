"""May we act on this target now? The guards, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from receiver.policy.guards.approval import approval
from receiver.policy.guards.backoff import backoff
from receiver.policy.guards.breaker import breaker
from receiver.policy.guards.budget import budget
from receiver.policy.guards.busy import busy
from receiver.policy.guards.concurrency import concurrency
from receiver.policy.guards.current import current
from receiver.policy.guards.dormant import dormant
from receiver.policy.guards.grace import grace
from receiver.policy.guards.maintenance import maintenance
from receiver.policy.guards.mode import mode
from receiver.policy.guards.monitoring import monitoring
from receiver.policy.guards.paused import paused
from receiver.policy.guards.situation import ALLOW, Answer, Situation, Verdict
from receiver.policy.guards.storm import storm
from receiver.policy.guards.worker import worker

Guard = Callable[[Situation], Verdict]

OF_THE_ALERT: Final = frozenset({"maintenance", "current", "monitoring"})
"""Guards that may answer otherwise for another alert of the same target."""
OF_THE_OPERATOR: Final = frozenset({"mode", "approval"})
"""Guards that say what would be done, for a person to judge."""

GUARDS: Final[tuple[tuple[str, Guard], ...]] = (
    ("paused", paused),
    ("dormant", dormant),
    ("maintenance", maintenance),
    ("current", current),
    ("monitoring", monitoring),
    ("busy", busy),
    ("worker", worker),
    ("concurrency", concurrency),
    ("grace", grace),
    ("budget", budget),
    ("backoff", backoff),
    ("storm", storm),
    ("breaker", breaker),
    ("mode", mode),
    ("approval", approval),
)


class GuardAnswer(msgspec.Struct, frozen=True):
    guard: str
    verdict: Verdict


class Decision(msgspec.Struct, frozen=True):
    verdict: Verdict
    """The first answer that is not Allow, or Allow."""
    answers: tuple[GuardAnswer, ...]
    """What every guard said, in order. None is skipped, so that a refusal can be explained in
    full."""

    @property
    def refused_by(self) -> frozenset[str]:
        return frozenset(
            each.guard for each in self.answers if each.verdict.answer is not Answer.ALLOW
        )

    def refusal_of_the_alert(self, situation: Situation) -> Verdict | None:
        """Return why this alert does not ask for an action, apart from what its target says."""
        # The grace period is the target's; firing because of old data is the alert's own.
        own = OF_THE_ALERT if situation.past.forgets_at is None else OF_THE_ALERT | {"grace"}
        refusals = [
            each.verdict
            for each in self.answers
            if each.guard in own and each.verdict.answer is not Answer.ALLOW
        ]
        over = [verdict for verdict in refusals if verdict.answer is Answer.DENY]
        return next(iter(over + refusals), None)


def decide(situation: Situation) -> Decision:
    """Ask every guard; an alert that is over is denied whatever else is in the way."""
    answers = tuple(GuardAnswer(name, guard(situation)) for name, guard in GUARDS)
    refusals = [answer for answer in answers if answer.verdict.answer is not Answer.ALLOW]
    over = [
        answer
        for answer in refusals
        if answer.guard == "current" and answer.verdict.answer is Answer.DENY
    ]
    verdict = (over or refusals)[0].verdict if refusals else ALLOW
    if situation.left_out:
        detail = "; ".join(filter(None, (verdict.detail, situation.left_out)))
        verdict = msgspec.structs.replace(verdict, detail=detail)
    return Decision(verdict, answers)
