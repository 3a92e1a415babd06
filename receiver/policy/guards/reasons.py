"""What does each reason mean? One row each; whoever needs to know derives it from here.

For people, each has a section of its name in docs/reference/decisions.md, which a test holds to
this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from receiver.policy.guards.situation import Answer, Reason


class Wake(StrEnum):
    """What makes a target that waits be decided anew, besides news, a reload and the resync."""

    TIME = "time"
    """The time that the guard names, at which the answer will be another one."""
    RETRY = "retry"
    """A time at which upstream is asked again, which does not tell when its answer changes."""
    TARGET = "target"
    """The end of the run that holds the target."""
    PLACE = "place"
    """A place that has become free. It is handed over to the run that has waited longest."""
    TRIAL = "trial"
    """The end of a breaker's trial."""
    WORKER = "worker"
    """A worker that starts."""
    PERSON = "person"
    """A person who resumes, resets, approves or rejects."""


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
    wakes: tuple[Wake, ...] = ()
    """What it waits for, the usual one first. Without any it is a no: nothing is waited for."""
    independent_of_upstream: bool = False
    """It holds whatever Prometheus and Alertmanager say, so neither is asked."""
    over: bool = False
    """The alert has ended, or must be taken for ended."""
    remedy: str
    """What a person does about it."""

    @property
    def answer(self) -> Answer:
        return Answer.WAIT if self.wakes else Answer.DENY


MEANINGS: Final[Mapping[Reason, Meaning]] = {
    Reason.DISABLED: Meaning(independent_of_upstream=True, remedy="switch the flag on and reload"),
    Reason.PAUSED: Meaning(
        wakes=(Wake.PERSON, Wake.TIME),
        independent_of_upstream=True,
        remedy="read the reason, ask its author, then lift the pause",
    ),
    Reason.REJECTED: Meaning(
        independent_of_upstream=True,
        remedy="fix the problem by hand; a rejection cannot be withdrawn",
    ),
    Reason.DORMANT: Meaning(
        wakes=(Wake.PERSON,),
        independent_of_upstream=True,
        remedy="find out why it kept failing, then `promheal resume --reason WHY`",
    ),
    Reason.MAINTENANCE: Meaning(wakes=(Wake.TIME,), independent_of_upstream=True, remedy="nothing"),
    Reason.SILENCED: Meaning(
        wakes=(Wake.RETRY,), remedy="expire the silence when the work is done"
    ),
    Reason.SILENCE_UNKNOWN: Meaning(
        wakes=(Wake.RETRY,),
        remedy="bring Alertmanager back, or correct `alertmanager.url` or its token",
    ),
    Reason.RESOLVED: Meaning(over=True, remedy="nothing"),
    Reason.STALE: Meaning(over=True, remedy="find out why Prometheus cannot answer"),
    Reason.CONDITION_FALSE: Meaning(
        wakes=(Wake.RETRY,), remedy="nothing, or try the query in Prometheus"
    ),
    Reason.CONDITION_UNKNOWN: Meaning(
        wakes=(Wake.RETRY,),
        remedy="fix what the detail names: bring Prometheus back, or correct the template",
    ),
    Reason.RULE_UNKNOWN: Meaning(
        wakes=(Wake.RETRY,), remedy="configure the Prometheus that has the rule, or load the rule"
    ),
    Reason.MONITORING_SUSPECT: Meaning(wakes=(Wake.RETRY,), remedy="fix the scrape, or the rule"),
    Reason.BUSY: Meaning(
        wakes=(Wake.TARGET,),
        independent_of_upstream=True,
        remedy="nothing, or `promheal cancel ID --reason WHY`",
    ),
    Reason.NO_WORKER: Meaning(
        wakes=(Wake.WORKER, Wake.RETRY),
        remedy="start `promheal work --host NAME` there, or find out why it ended",
    ),
    Reason.CONCURRENCY: Meaning(
        wakes=(Wake.PLACE,),
        independent_of_upstream=True,
        remedy="nothing, or raise the limit if your services can handle it",
    ),
    Reason.GRACE_PERIOD: Meaning(wakes=(Wake.TIME,), remedy="nothing"),
    Reason.BUDGET_EXHAUSTED: Meaning(wakes=(Wake.TIME,), remedy="look at the service"),
    Reason.BACKOFF: Meaning(
        wakes=(Wake.TIME,), remedy="nothing, or look at what failed: `promheal runs`"
    ),
    Reason.STORM: Meaning(wakes=(Wake.PLACE,), remedy="look for the common cause"),
    Reason.BLAST_RADIUS: Meaning(
        wakes=(Wake.TIME,), remedy="check whether the heals help before you raise the limits"
    ),
    Reason.BREAKER_OPEN: Meaning(
        wakes=(Wake.TIME, Wake.TRIAL, Wake.PERSON),
        remedy="look at the last runs, and fix what made them fail",
    ),
    Reason.BREAKER_PERMANENT_OPEN: Meaning(
        wakes=(Wake.PERSON,),
        remedy="find out why the trials failed too,"
        " then `promheal breaker reset NAME --force --reason WHY`",
    ),
    Reason.OBSERVE_ONLY: Meaning(remedy="set `mode: approve` or `mode: auto` when you trust it"),
    Reason.DRY_RUN: Meaning(remedy="start it without"),
    Reason.AWAITING_APPROVAL: Meaning(
        wakes=(Wake.PERSON, Wake.TIME),
        remedy="look at what would be done, then `promheal approve ID --reason WHY` or"
        " `promheal reject ID --reason WHY`",
    ),
    Reason.APPROVAL_EXPIRED: Meaning(
        remedy="fix the problem by hand; for next time, raise `engine.approval`,"
        " or send approvals to a channel"
    ),
}

INDEPENDENT_OF_UPSTREAM: Final = frozenset(
    reason for reason, meaning in MEANINGS.items() if meaning.independent_of_upstream
)
OVER: Final = frozenset(reason for reason, meaning in MEANINGS.items() if meaning.over)
VERDICTS: Final[tuple[tuple[Answer, str], ...]] = (
    (Answer.ALLOW, ""),
    *((meaning.answer, reason) for reason, meaning in MEANINGS.items()),
)
"""Every (answer, reason) that a decision can have."""


def woken_by(wake: Wake) -> tuple[Reason, ...]:
    """Return the reasons of those that *wake* makes be decided anew."""
    return tuple(reason for reason, meaning in MEANINGS.items() if wake in meaning.wakes)


PASSED_ON: Final = woken_by(Wake.PLACE)
"""What a run waits for that another one hands over."""

WOKEN_BY_OTHERS: Final = frozenset(
    reason
    for wake in (Wake.TARGET, Wake.PLACE, Wake.TRIAL, Wake.WORKER)
    for reason in woken_by(wake)
)
"""What a run waits for until somebody else's run or process makes room."""
