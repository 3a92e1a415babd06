"""May we act on this target now? The order in which the guards are asked is policy: it is here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from receiver.guards.approval import approval
from receiver.guards.backoff import backoff
from receiver.guards.breaker import breaker
from receiver.guards.budget import budget
from receiver.guards.busy import busy
from receiver.guards.concurrency import concurrency
from receiver.guards.current import current
from receiver.guards.dormant import dormant
from receiver.guards.grace import grace
from receiver.guards.maintenance import maintenance
from receiver.guards.mode import mode
from receiver.guards.monitoring import monitoring
from receiver.guards.paused import paused
from receiver.guards.situation import ALLOW, Answer, Situation, Verdict
from receiver.guards.storm import storm
from receiver.guards.worker import worker

Guard = Callable[[Situation], Verdict]

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
    """What every guard said, in order: none is skipped, so that a no can be explained in full."""


def decide(situation: Situation) -> Decision:
    """Ask every guard; what is over is not waited for, whatever else is in the way."""
    answers = tuple(GuardAnswer(name, guard(situation)) for name, guard in GUARDS)
    refusals = [answer for answer in answers if answer.verdict.answer is not Answer.ALLOW]
    over = [
        answer
        for answer in refusals
        if answer.guard == "current" and answer.verdict.answer is Answer.DENY
    ]
    return Decision((over or refusals)[0].verdict if refusals else ALLOW, answers)
