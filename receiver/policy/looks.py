"""When is Prometheus looked at again, and how does a run end by what was seen?

    the last step ends            nothing old counts any more                    the deadline
    ──┬───────────────────────────────────┬───────────────────────────────────────────┬──►
      │   cleared: healed, at any time, once it was so at every look for `hold`       │
      │   firing: says nothing            │  firing: look again                       │ ineffective
      │   unknown: look again                                                         │ inconclusive

Where the rule remembers for longer than is waited, or nobody knows for how long, firing says
nothing at the deadline either.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import inf
from typing import Final

import msgspec

from receiver.policy.duration import format_duration
from receiver.policy.run import Doubt, Observation, Outcome, Plan
from receiver.policy.signal import Signal

LOOKS: Final = 20
"""Looks within the time that a proof may take, as far as the limits of their distance allow."""
SHORTEST: Final = 1.0  # seconds between two looks
LONGEST: Final = 15.0  # seconds between two looks


class ProofWait(msgspec.Struct, frozen=True, kw_only=True):
    """What can be concluded about one run, and when. Seconds since the epoch."""

    start: float
    """When its last step had ended."""
    reach: float
    """From here on nothing from before the action counts; infinite where that is unknown."""
    deadline: float
    """The run ends here, unless it has cleared and only `hold` is left."""
    hold: float
    """Seconds."""


def waited(reach: float, *, within: float, settle: float, at_most: float) -> float:
    """Return the seconds for which a proof is waited for at most.

    *reach* is when nothing old counts any more, infinite where that is unknown. The operator's
    *within* is never cut short; beyond it, *at_most* is the limit.
    """
    return max(within, 0.0 if reach == inf else min(reach + settle, at_most))


def wait_of(plan: Plan, start: float) -> ProofWait:
    """Return how long the proof of a run may take, whose last step ended at *start*."""
    reach = inf if plan.decay is None else plan.decay + plan.scrape
    longest = waited(
        reach,
        within=plan.verify_within,
        settle=plan.verify_settle,
        at_most=plan.verify_at_most,
    )
    return ProofWait(
        start=start, reach=start + reach, deadline=start + longest, hold=plan.verify_hold
    )


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at Prometheus showed."""

    at: float
    signal: Signal
    detail: str
    unasked: bool = False
    """Prometheus gave no usable answer."""
    lag: float = 0.0
    """Seconds by which the moment that was looked at lies before it."""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ends, if it does."""

    outcome: Outcome | None
    """None: look again."""
    doubt: Doubt | None = None
    seen: str
    """What the look showed, annotated for the operator."""
    reason: str
    """Why it ends so."""
    forgets_at: float | None = None
    """Until when data from before the action may keep the alert firing."""


def end_of(look: Look, plan: Plan, wait: ProofWait, cleared: float | None, *, heals: bool) -> End:
    """Return whether, and how, a run ends by *look*.

    *cleared* is since when every look has found it cleared; *heals*: one of its steps may heal.
    """
    outcome = _outcome(look, wait, cleared)
    doubt = _doubt(look) if outcome is Outcome.INCONCLUSIVE else None
    seen = reason = look.detail
    firing = look.signal is Signal.FIRING
    old = _old_data(plan, wait, look.at, look.at - look.lag) if firing else ""
    if old:
        seen = reason = f"{seen}; {old}"
    if not heals and outcome in {Outcome.INEFFECTIVE, Outcome.INCONCLUSIVE}:
        outcome, doubt = Outcome.INCONCLUSIVE, Doubt.NO_HEAL
        reason = f"its steps only watched and told: {seen}" if firing else seen
    unproven = doubt is not None and doubt is not Doubt.NO_HEAL
    by_query = outcome is Outcome.HEALED and plan.verify_query is not None
    forgets_at = None
    if plan.alert_decay is not None and (unproven or by_query):
        forgets_at = wait.start + plan.alert_decay + plan.scrape
    return End(outcome=outcome, doubt=doubt, seen=seen, reason=reason, forgets_at=forgets_at)


def _outcome(look: Look, wait: ProofWait, cleared: float | None) -> Outcome | None:
    if look.signal is Signal.CLEARED:
        assert cleared is not None
        return Outcome.HEALED if look.at - cleared >= wait.hold else None
    if look.at < wait.deadline:
        return None
    ineffective = look.signal is Signal.FIRING and look.at - look.lag >= wait.reach
    return Outcome.INEFFECTIVE if ineffective else Outcome.INCONCLUSIVE


def _doubt(look: Look) -> Doubt:
    if look.unasked:
        return Doubt.UNASKED
    return Doubt.OLD_DATA if look.signal is Signal.FIRING else Doubt.UNKNOWN


def next_look(now: float, wait: ProofWait, cleared: float | None) -> float:
    """Return when to look again: soon where little time is given, and once at the deadline."""
    start, end = (wait.start, wait.deadline) if cleared is None else (cleared, cleared + wait.hold)
    distance = min(max((end - start) / LOOKS, SHORTEST), LONGEST)
    return min(now + distance, end)


def cleared_since(looks: Sequence[Observation]) -> float | None:
    """Return since when every one of *looks*, in order, has found it cleared; None if not now."""
    since = None
    for look in reversed(looks):
        if look.verdict != Signal.CLEARED:
            break
        since = look.at
    return since


def _old_data(plan: Plan, wait: ProofWait, now: float, seen: float) -> str:
    """Return why firing, as of *seen*, says nothing, and what to do about it; else nothing."""
    if seen >= wait.reach:
        return ""
    if wait.reach == inf:
        return (
            "how long what was before the action counts is not known: "
            f"{plan.decay_problem}; write a `verify.query`"
        )
    if now < wait.deadline:
        return f"data from before the action counts until {clock_time(wait.reach, now)}"
    needs = format_duration(round(wait.reach - wait.start))
    return (
        f"this rule needs {needs} to forget what was before the action; "
        "write a `verify.query` with a shorter window, or raise `verify.at_most`"
    )


def clock_time(at: float, now: float) -> str:
    """Return a moment as `08:14:30 UTC`, with its date unless it is within a day of *now*."""
    form = "%H:%M:%S" if abs(at - now) < 86_400 else "%Y-%m-%d %H:%M:%S"
    return f"{datetime.fromtimestamp(at, UTC):{form}} UTC"
