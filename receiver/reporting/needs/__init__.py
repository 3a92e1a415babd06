"""What needs a person now? One list, for the status, the metrics, the log and what people are told.

Nothing else says that all is well: promheal is healthy when the list is empty. The titles and the
advice that the operations guide has are its own, so that what is written for it works as it stands.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Final
from urllib.parse import quote

import msgspec

from receiver.engine.periodic_task import load
from receiver.journal import JournalState
from receiver.log import escape
from receiver.policy.breaker import Breaker, BreakerState
from receiver.policy.duration import format_duration
from receiver.policy.run import Outcome, Run
from receiver.policy.strategy import Mode
from receiver.reporting.present import LATELY, Present, Seen
from receiver.reporting.refusals import SET_ASIDE, WITHIN

WARN_FAILURES: Final = 5
"""Targets that have failed in a row, from which it is said how near dormancy is."""
FLAPPING: Final = 2
"""Heals of one target that did not hold lately, from which it is said."""
SHOWN: Final = 5
"""Needs of one kind that are listed one by one; the others are counted."""
CLOCK_LEAD: Final = 60.0
"""Seconds by which the wall clock may differ from promheal's."""
MAX_WORD: Final = 300
"""Characters of a name that is repeated in a command."""

_REASON: Final = "--reason WHY"


class Severity(StrEnum):
    CRITICAL = "critical"
    """It does not heal, or not here."""
    WARNING = "warning"
    """It heals, or would; a person should know something."""


class NeedReason(StrEnum):
    """What kind of need is it? The codes of the API and of docs/reference/states.md."""

    JOURNAL = "journal"
    NOT_READY = "not_ready"
    JOURNAL_NOT_WRITABLE = "journal_not_writable"
    UPSTREAM_DOWN = "upstream_down"
    NO_PROMETHEUS = "no_prometheus"
    NO_STRATEGY = "no_strategy"
    OBSERVE_ONLY = "observe_only"
    DRY_RUN = "dry_run"
    DISABLED = "disabled"
    DETECTION_OFF = "detection_off"
    DORMANT = "dormant"
    CONSECUTIVE_FAILURES = "consecutive_failures"
    BREAKER_OPEN = "breaker_open"
    BREAKER_PERMANENT_OPEN = "breaker_permanent_open"
    PAUSED = "paused"
    AWAITING_APPROVAL = "awaiting_approval"
    STORM = "storm"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    INEFFECTIVE = "ineffective"
    INCONCLUSIVE = "inconclusive"
    UNKNOWN = "unknown"
    RELAPSED = "relapsed"
    NO_WORKER = "no_worker"
    RELOAD_FAILED = "reload_failed"
    NOTIFICATIONS_REFUSED = "notifications_refused"
    ALERTS_SET_ASIDE = "alerts_set_aside"
    TASKS = "tasks"
    LLM_KEYS = "llm_keys"
    CLOCK = "clock"


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a person should see to."""

    severity: Severity
    reason: NeedReason
    title: str
    """What is wrong, in a sentence."""
    subject: str = ""
    """What it is about, if there may be several of its kind: a breaker, a target, an upstream."""
    why: str = ""
    """What is known of the cause; may be somebody else's words."""
    advice: str = ""
    """What to do, in a sentence."""
    command: str = ""
    """The command that helps, or that shows more; WHY stands for what only a person can say."""
    run: int | None = None
    strategy: str | None = None

    @property
    def id(self) -> str:
        """What makes it this need and no other, for as long as it stands."""
        return f"{self.reason}:{self.subject}" if self.subject else str(self.reason)

    @property
    def issue(self) -> str:
        """The sentence of the operations guide."""
        return f"{self.severity.upper()}: {self.title}"

    @property
    def links(self) -> dict[str, str]:
        """Paths of this server's pages, by what they show."""
        links = {}
        if self.run is not None:
            links["run"] = f"/runs/{self.run}"
        if self.strategy is not None:
            links["strategy"] = f"/strategies/{quote(self.strategy, safe='')}"
        return links


def needs(present: Present, seen: Seen | None) -> tuple[Need, ...]:
    """Return what needs a person, the worst first; *seen* is None while nothing can be read."""
    found = [*_of_process(present), *_of_settings(present)]
    if seen is not None:
        found += [*_of_engine(present, seen), *_of_runs(present, seen)]
    found += _of_tasks(present)
    return tuple(sorted(found, key=lambda need: need.severity is not Severity.CRITICAL))


def worst(found: Iterable[Need]) -> str:
    """Return the status that the list stands for: `healthy` only when it is empty."""
    severities = {need.severity for need in found}
    if not severities:
        return "healthy"
    return str(Severity.CRITICAL if Severity.CRITICAL in severities else Severity.WARNING)


# -- one need each, also for what is told about it


def dormant(why: str) -> Need:
    return Need(
        severity=Severity.CRITICAL,
        reason=NeedReason.DORMANT,
        title="Self-Healing Engine in DORMANT mode",
        why=why,
        advice="Call POST /api/system/heal/resume with valid reason",
        command=f"promheal resume {_REASON}",
    )


def open_for_good(name: str) -> Need:
    return Need(
        severity=Severity.CRITICAL,
        reason=NeedReason.BREAKER_PERMANENT_OPEN,
        subject=name,
        title=f"Circuit breaker {name} is PERMANENT_OPEN",
        why="It tripped again and again without a heal between",
        advice="Find out why it kept failing, then call "
        f"POST /api/breakers/{name}/reset with force and a reason",
        command=f"promheal breaker reset {word(name)} --force {_REASON}",
    )


def approval(run: Run) -> Need:
    return Need(
        severity=Severity.WARNING,
        reason=NeedReason.AWAITING_APPROVAL,
        subject=str(run.id),
        title=f"Run {run.id} of {run.strategy} on {run.target} waits for approval",
        advice="Say yes or no",
        command=f"promheal approve {run.id} {_REASON}",
        run=run.id,
        strategy=run.strategy,
    )


_IN_VAIN: Final = {
    Outcome.FAILED: "See which step failed",
    Outcome.ROLLED_BACK: "See which step failed",
    Outcome.UNKNOWN: "See what was being done when its end was lost",
    Outcome.ROLLBACK_FAILED: "See by hand to what it has changed",
    Outcome.INEFFECTIVE: "It still fires, so look for another cause",
    Outcome.INCONCLUSIVE: "See what could not be proven, and why",
}


def in_vain(run: Run) -> Need:
    """Of a run that has ended and has not healed."""
    assert run.outcome is not None
    return Need(
        severity=Severity.WARNING,
        reason=NeedReason(run.outcome),
        subject=f"{run.strategy}:{run.target}",
        title=f"The last run of {run.strategy} on {run.target} ended as {run.outcome}, "
        "and its alert fires",
        why=run.reason,
        advice=_IN_VAIN[run.outcome],
        command=f"promheal run {run.id}",
        run=run.id,
        strategy=run.strategy,
    )


def relapsed(strategy: str, target: str, times: int) -> Need:
    lately = format_duration(LATELY)
    return Need(
        severity=Severity.WARNING,
        reason=NeedReason.RELAPSED,
        subject=f"{strategy}:{target}",
        title=f"{times} heals of {strategy} on {target} did not hold in the last {lately}",
        why="It treats a symptom",
        advice="Look for the cause, which its actions do not remove",
        command=f"promheal runs --strategy {word(strategy)}",
        strategy=strategy,
    )


def resuming(scope: str) -> str:
    """Return the command that lifts the pauses of a scope."""
    kind, _, name = scope.partition(":")
    # What escape() writes for a control character, a target's name has too.
    narrowed = f" --{kind} {shlex.quote(escape(name))}" if name else ""
    return f"promheal resume{narrowed} {_REASON}"


def word(text: str) -> str:
    """Return it as a word of a command that people may copy: it may come from a label."""
    return shlex.quote(text) if text.isprintable() and len(text) <= MAX_WORD else "NAME"


# -- which of them there are


def _of_process(present: Present) -> Iterator[Need]:
    condition = present.condition
    if not condition.sound:
        checking = condition.state is JournalState.CHECKING
        yield Need(
            severity=Severity.WARNING if checking else Severity.CRITICAL,
            reason=NeedReason.JOURNAL,
            title=condition.problem,
            advice=condition.remedy,
        )
    elif present.unready:
        yield Need(severity=Severity.CRITICAL, reason=NeedReason.NOT_READY, title=present.unready)
    if condition.stores and present.trouble:
        yield Need(
            severity=Severity.CRITICAL,
            reason=NeedReason.JOURNAL_NOT_WRITABLE,
            title="the journal cannot store; alerts are answered 503",
            why=present.trouble,
            advice="Make room on the disk of the journal, or mend what is named here: "
            f"{present.trouble}",
            command="df -h",
        )
    for one in present.upstreams:
        if one.problem:
            yield Need(
                severity=Severity.CRITICAL,
                reason=NeedReason.UPSTREAM_DOWN,
                subject=one.name,
                title="Prometheus cannot be asked: no alert is confirmed, and no heal is proven"
                if one.name == "prometheus"
                else "Alertmanager cannot be asked for silences: nothing begins",
                why=one.problem,
                advice=f"Bring it back, or correct {one.name}.url or its token",
                command="promheal doctor",
            )
    if abs(present.clock_lead) > CLOCK_LEAD:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.CLOCK,
            title=f"the wall clock is {present.clock_lead:.0f} s ahead of promheal's, "
            "whose times are shown",
            advice="Restart the machine when it suits: promheal's clock follows the wall clock "
            "then",
        )
    if not present.reload_successful:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.RELOAD_FAILED,
            title="the configuration was not reloaded; the one before is in force",
            advice="Run promheal check, mend what it names, and reload",
            command="promheal check",
        )
    yield from _of_notifications(present.refused)


def _of_notifications(refused: Mapping[str, int]) -> Iterator[Need]:
    lately = format_duration(WITHIN)
    for code, number in sorted(refused.items()):
        if code == SET_ASIDE:
            yield Need(
                severity=Severity.WARNING,
                reason=NeedReason.ALERTS_SET_ASIDE,
                title=f"{number} alerts could not be read in the last {lately}, and are set aside",
                advice="See in the log what is wrong with them, and mend their sender",
            )
            continue
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.NOTIFICATIONS_REFUSED,
            subject=code,
            title=f"{number} notifications were refused with {code} in the last {lately}",
            why=_REFUSED.get(code, "They cannot be read"),
            advice="See in the log who sent them, and mend the receiver in its alertmanager.yml",
            command="promheal doctor",
        )


_REFUSED: Final = {
    "401": "Their sender shows no user or token that is known here",
    "403": "Their sender may not post to the webhook",
}


def _of_settings(present: Present) -> Iterator[Need]:
    modes = Counter(strategy.mode for strategy in present.strategies)
    if not present.flags["auto_healing"]:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.DISABLED,
            title="auto healing is switched off",
            advice="Set flags.auto_healing to true in promheal.yml, and reload",
        )
    if not present.flags["auto_detection"]:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.DETECTION_OFF,
            title="auto detection is switched off: alerts are recorded, not matched",
            advice="Set flags.auto_detection to true in promheal.yml, and reload",
        )
    if present.dry_run:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.DRY_RUN,
            title="dry run: nothing is done",
            advice="See what would have been done; to do it, start without --dry-run",
            command="promheal alerts",
        )
    if not modes:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.NO_STRATEGY,
            title="there is no strategy: nothing is healed",
            advice="Write one into healing_strategies.yml, and reload",
            command="promheal check",
        )
    elif modes.keys() == {Mode.OBSERVE} and not present.dry_run:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.OBSERVE_ONLY,
            title="every strategy only observes: nothing is done",
            advice="See what would have been done; to do it, set a strategy's mode to auto",
            command="promheal alerts",
        )
    if modes and not present.proves:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.NO_PROMETHEUS,
            title="there is no Prometheus to ask: no heal can be proven",
            advice="Set prometheus.url in promheal.yml, and reload",
            command="promheal doctor",
        )
    if present.pause_file:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.PAUSED,
            subject="file",
            title=f"everything is paused, since {present.pause_file} exists",
            advice=f"Remove {present.pause_file}",
            command=f"rm {word(present.pause_file)}",
        )


def _of_engine(present: Present, seen: Seen) -> Iterator[Need]:
    if seen.snapshot.without_worker:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.NO_WORKER,
            title=f"{seen.snapshot.without_worker} runs are bound to a host without a worker",
            advice="Start promheal work on it; promheal run ID says which host it is",
            command="promheal runs --state pending",
        )
    dormancy = seen.dormancy
    if dormancy.since is not None:
        yield dormant(dormancy.reason)
    elif dormancy.failures >= WARN_FAILURES:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.CONSECUTIVE_FAILURES,
            title=f"Self-Healing has {dormancy.failures} consecutive failures",
            advice="System approaching Dormant Mode threshold "
            f"({present.engine.dormant_after} failures)",
            command="promheal runs --state finished",
        )
    for name, one in seen.breakers.items():
        yield from _of_breaker(name, one, seen.now)
    for pause in seen.pauses:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.PAUSED,
            subject=str(pause.id),
            title=f"{pause.scope} is paused by {pause.by}: {pause.reason}",
            command=resuming(pause.scope),
        )


def _of_breaker(name: str, breaker: Breaker, now: float) -> Iterator[Need]:
    match breaker.state(now):
        case BreakerState.PERMANENT_OPEN:
            yield open_for_good(name)
        case BreakerState.OPEN | BreakerState.HALF_OPEN as state:
            yield Need(
                severity=Severity.WARNING,
                reason=NeedReason.BREAKER_OPEN,
                subject=name,
                title=f"Circuit breaker {name} is {state}",
                why="It kept failing; one run will try whether that is over",
                command=f"promheal breaker reset {word(name)} {_REASON}",
            )
        case BreakerState.CLOSED:
            pass


def _of_runs(present: Present, seen: Seen) -> Iterator[Need]:
    for name in sorted(seen.storms):
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.STORM,
            subject=name,
            title=f"More than {present.engine.storm.targets} targets of {name} are ill: "
            "no more are treated at once",
            why="What they have in common may be the cause",
            advice="Look for what they have in common",
            command="promheal alerts",
            strategy=name,
        )
    yield from _first(
        [approval(run) for run in seen.asking],
        "runs wait for approval",
        "promheal runs --state pending",
    )
    yield from _first(
        [in_vain(run) for run in seen.unhealed],
        "targets were treated in vain, and their alerts fire",
        "promheal runs --state finished",
    )
    flapping = [(key, times) for key, times in seen.relapses.items() if times >= FLAPPING]
    yield from _first(
        [relapsed(*key, times) for key, times in flapping],
        "targets did not stay healed",
        "promheal runs --state finished",
    )


def _first(found: list[Need], others: str, command: str) -> Iterator[Need]:
    """Yield the first ones, and one that counts the rest."""
    yield from found[:SHOWN]
    if len(found) > SHOWN:
        last = found[-1]
        yield Need(
            severity=last.severity,
            reason=last.reason,
            subject="others",
            title=f"{len(found) - SHOWN} more {others}",
            command=command,
        )


def _of_tasks(present: Present) -> Iterator[Need]:
    number = len(present.tasks)
    match load(number):
        case "overload":
            yield Need(
                severity=Severity.WARNING,
                reason=NeedReason.TASKS,
                subject="overload",
                title=f"{number} background tasks are an overload (3-5 are normal)",
                advice="Call POST /api/tasks/cleanup, and remove providers that are not used",
                command="promheal tasks cleanup",
            )
        case "caution":
            yield Need(
                severity=Severity.WARNING,
                reason=NeedReason.TASKS,
                subject="caution",
                title=f"{number} background tasks (3-5 are normal)",
                command="promheal tasks",
            )
        case _:
            pass
    paused = [task.id for task in present.tasks if task.paused]
    if paused:
        yield Need(
            severity=Severity.WARNING,
            reason=NeedReason.TASKS,
            subject="paused",
            title=f"background tasks are paused: {', '.join(paused)}",
            advice="Call POST /api/tasks/resume",
            command="promheal tasks resume",
        )
    if present.keys.all_failed:
        yield Need(
            severity=Severity.CRITICAL,
            reason=NeedReason.LLM_KEYS,
            title="all LLM keys failed",
            advice="Look at llm.providers for the reason of each, and set a key that works",
            command="promheal status -o json",
        )
