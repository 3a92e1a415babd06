"""May we act on this target now? The order in which the guards are asked is policy: it is here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from receiver.guards.budget import budget
from receiver.guards.busy import busy
from receiver.guards.concurrency import concurrency
from receiver.guards.current import current
from receiver.guards.grace import grace
from receiver.guards.mode import mode
from receiver.guards.paused import paused
from receiver.guards.situation import ALLOW, Answer, Situation, Verdict

Guard = Callable[[Situation], Verdict]

GUARDS: Final[tuple[tuple[str, Guard], ...]] = (
    ("paused", paused),
    ("current", current),
    ("busy", busy),
    ("concurrency", concurrency),
    ("grace", grace),
    ("budget", budget),
    ("mode", mode),
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
    answers = tuple(GuardAnswer(name, guard(situation)) for name, guard in GUARDS)
    verdict = next(
        (answer.verdict for answer in answers if answer.verdict.answer is not Answer.ALLOW), ALLOW
    )
    return Decision(verdict, answers)
