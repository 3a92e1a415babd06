"""Which facts would have turned a decision? Found by deciding again, with one changed at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import msgspec

from receiver.policy.alert import Alert, Status
from receiver.policy.breaker import Breaker
from receiver.policy.decide import decide
from receiver.policy.guards.reasons import MEANINGS, Wake
from receiver.policy.guards.situation import Answer, Reason, Situation
from receiver.policy.signal import ConditionState, Signal, Silencing
from receiver.policy.strategy import Mode

_ROUNDS: Final = 20
"""Times at which it is decided again; one guard's time can be another's."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was in the way, and what would have to be the case instead."""

    guard: str
    reason: Reason
    name: str
    """Where it stands in the situation: `past.starts`."""
    wanted: str
    """In words: `fewer runs on the target within the budget's windows`."""


class Turning(msgspec.Struct, frozen=True, kw_only=True):
    facts: tuple[Fact, ...]
    """The fewest with which it would have been allowed; none when it was, or no facts would do."""
    at: float | None
    """When time alone would have allowed it, all else being the same; None: never."""


class _Change(msgspec.Struct, frozen=True):
    name: str
    wanted: str
    value: Callable[[Situation], Any]


def _just(value: Any) -> Callable[[Situation], Any]:
    return lambda _: value


def _some_alert(situation: Situation) -> Alert:
    return situation.alert or Alert(
        fingerprint="0" * 16,
        status=Status.FIRING,
        labels={},
        annotations={},
        starts_at=situation.now,
        ends_at=None,
    )


def _fewer(name: str, guard: str) -> Callable[[Situation], Any]:
    """Return the times without as many of the oldest as *guard* minds, and no more."""

    def fewer(situation: Situation) -> Any:
        times = _get(situation, name)
        for number in range(len(times) + 1):
            found = times[number:]
            if guard not in decide(_set(situation, name, found)).refused_by:
                return found
        return ()

    return fewer


def _closed(situation: Situation) -> tuple[tuple[str, Breaker], ...]:
    return tuple((name, Breaker()) for name, _ in situation.around.breakers)


_CHANGES: Final[Mapping[str, Sequence[_Change]]] = {
    "paused": (
        _Change("wishes.enabled", "the flag auto_healing is on", _just(True)),
        _Change("wishes.preventive", "the flag preventive_healing is on", _just(True)),
        _Change("wishes.rejected", "nobody has rejected it", _just("")),
        _Change("wishes.pause", "no pause is in force for it", _just(None)),
    ),
    "dormant": (_Change("around.dormancy.since", "the engine is not dormant", _just(None)),),
    "maintenance": (
        _Change("wishes.maintenance", "no maintenance window is open for it", _just(None)),
        _Change(
            "upstream.silencing",
            "Alertmanager answers, and has no silence for it",
            _just(Silencing()),
        ),
    ),
    "current": (
        _Change("upstream.signal", "Prometheus confirms that it fires", _just(Signal.FIRING)),
        _Change("upstream.condition", "`when` holds", _just(ConditionState.TRUE)),
        _Change("alert", "an alert of the target fires", _some_alert),
    ),
    "monitoring": (_Change("upstream.suspect", "its scrapes and its rule work", _just("")),),
    "busy": (_Change("around.holder", "no other run holds the target", _just(None)),),
    "worker": (_Change("asking.absent", "a worker runs where its steps belong", _just("")),),
    "concurrency": (
        _Change(
            "around.acting",
            "fewer than `max_concurrent_runs` other runs act",
            lambda situation: situation.bounds.max_concurrent_runs - 1,
        ),
    ),
    "grace": (
        _Change("past.last_end", "no run has ended on the target lately", _just(None)),
        _Change(
            "past.forgets_at",
            "what was measured before the last action does not count any more",
            _just(None),
        ),
        _Change("past.restored_at", "the journal was not restored lately", _just(None)),
    ),
    "budget": (
        _Change(
            "past.starts",
            "fewer runs on the target within the windows of `budget`",
            _fewer("past.starts", "budget"),
        ),
    ),
    "backoff": (
        _Change("around.dormancy.failed_at", "no run has failed just before", _just(None)),
    ),
    "storm": (
        _Change(
            "around.affected",
            "no more than `storm.targets` targets are affected",
            lambda situation: situation.bounds.storm_targets,
        ),
        _Change(
            "past.latest_starts",
            "fewer other targets were acted on within `limits`",
            _fewer("past.latest_starts", "storm"),
        ),
    ),
    "breaker": (_Change("around.breakers", "its breakers are closed", _closed),),
    "mode": (
        _Change("wishes.dry_run", "started without --dry-run", _just(False)),
        _Change("strategy.mode", "`mode: auto`", _just(Mode.AUTO)),
    ),
    "approval": (_Change("asking.approved_at", "a person has approved it", lambda each: each.now),),
}


def turning(situation: Situation) -> Turning:
    """Return what would turn a refusal on *situation* into a yes."""
    decision = decide(situation)
    if decision.verdict.answer is Answer.ALLOW:
        return Turning(facts=(), at=None)
    found: list[tuple[str, _Change]] = []
    changed = situation
    for guard, changes in _CHANGES.items():
        chosen = _fewest(changed, guard, changes)
        found += [(guard, change) for change in chosen]
        changed = _with(changed, chosen)
    for one in tuple(found):  # what another one has made needless
        rest = [each for each in found if each is not one]
        if _allows(_with(situation, [change for _, change in rest])):
            found = rest
    if not _allows(_with(situation, [change for _, change in found])):
        found = []
    reasons = {each.guard: each.verdict.reason for each in decision.answers}
    facts = (
        Fact(guard=guard, reason=reason, name=change.name, wanted=change.wanted)
        for guard, change in found
        if (reason := reasons[guard] or decision.verdict.reason) is not None
    )
    return Turning(facts=tuple(facts), at=_by_time(situation))


def _by_time(situation: Situation) -> float | None:
    """Return when the guards would all allow it if nothing happened but time."""
    for _ in range(_ROUNDS):
        refused = [
            each.verdict
            for each in decide(situation).answers
            if each.verdict.answer is not Answer.ALLOW
        ]
        if not refused:
            return situation.now
        for verdict in refused:
            if verdict.reason is None or Wake.TIME not in MEANINGS[verdict.reason].wakes:
                return None
        times = [verdict.until for verdict in refused]
        latest = max((at for at in times if at is not None), default=situation.now)
        if None in times or latest <= situation.now:
            return None
        situation = _later(situation, latest)
    return None


def _later(situation: Situation, now: float) -> Situation:
    """Return *situation* at a later time: what ends by itself until then has ended."""
    wishes = situation.wishes
    for name in ("pause", "maintenance"):
        hold = getattr(wishes, name)
        if hold is not None and hold.until is not None and hold.until <= now:
            wishes = msgspec.structs.replace(wishes, **{name: None})
    return msgspec.structs.replace(situation, now=now, wishes=wishes)


def _fewest(situation: Situation, guard: str, changes: Sequence[_Change]) -> Sequence[_Change]:
    """Return as few of *changes* as make *guard* allow; none if they cannot, or it does."""
    for size in range(len(changes) + 1):
        for some in combinations(changes, size):
            if guard not in decide(_with(situation, some)).refused_by:
                return some
    return ()


def _allows(situation: Situation) -> bool:
    return decide(situation).verdict.answer is Answer.ALLOW


def _with(situation: Situation, changes: Sequence[_Change]) -> Situation:
    for change in changes:
        situation = _set(situation, change.name, change.value(situation))
    return situation


def _get(value: Any, name: str) -> Any:
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _set(value: Any, name: str, to: Any) -> Any:
    first, _, rest = name.partition(".")
    inner = _set(getattr(value, first), rest, to) if rest else to
    return msgspec.structs.replace(value, **{first: inner})
