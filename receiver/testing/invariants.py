"""What must never happen: is it kept over the whole of a test?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from receiver.simulation.upstream import fires
from receiver.simulation.world import VirtualWorld
from receiver.testing.difference import Difference
from receiver.testing.expected import Never
from receiver.testing.seen import acted, shown_time, text


class _Happening(msgspec.Struct, frozen=True):
    at: float
    what: str
    group: tuple[str, str]
    """What is counted together: a strategy or an action, and its target."""


def broken(world: VirtualWorld, never: Never) -> Difference | None:
    """Return where *never* did not hold, the first time."""
    found = [one for one in _happenings(world, never) if _while(world, never, one.at)]
    if never.more_than is None:
        if not found:
            return None
        return Difference(expected=(_shown(never),), got=_lines(world, found[:5]))
    most = never.more_than.runs if never.more_than.runs is not None else never.more_than.calls
    assert most is not None
    for group in dict.fromkeys(one.group for one in found):
        times = [one for one in found if one.group == group]
        for first, last in zip(times, times[most:], strict=False):
            if last.at - first.at < never.more_than.per:
                within = [one for one in times if first.at <= one.at <= last.at]
                return Difference(expected=(_shown(never),), got=_lines(world, within))
    return None


def _happenings(world: VirtualWorld, never: Never) -> Iterator[_Happening]:
    if never.action is not None:
        for call in world.stage.calls:
            if (
                call.undo
                or call.action != never.action
                or not _meant(never, call.strategy, call.target)
            ):
                continue
            yield _Happening(call.at, f"{call.text} for {call.target}", (call.action, call.target))
        return
    for run in acted(world):
        if not _meant(never, run.strategy, run.target):
            continue
        at = run.acted_at if never.outcome is None else run.finished_at
        if at is None or (never.outcome is not None and run.outcome is not never.outcome):
            continue
        ended = f", {run.outcome}" if run.outcome else ""
        yield _Happening(
            at, f"run {run.id} of {run.strategy} on {run.target}{ended}", (run.strategy, run.target)
        )


def _meant(never: Never, strategy: str, target: str) -> bool:
    return never.strategy in {"*", strategy} and never.target in {None, target}


def _while(world: VirtualWorld, never: Never, at: float) -> bool:
    if never.condition is None:
        return True
    wanted = never.condition.alert.items()
    return any(
        wanted <= alert.labels.items() and fires(course.at(at - world.start))
        for alert, course in world.upstream.alerts.values()
    )


def _lines(world: VirtualWorld, found: Iterable[_Happening]) -> tuple[str, ...]:
    return tuple(f"{shown_time(world, one.at)} {one.what}" for one in found)


def _shown(never: Never) -> str:
    subject = never.action or ("a run" if never.strategy == "*" else f"a run of {never.strategy}")
    words = [
        f"never {subject}",
        f"on {never.target}" if never.target else "",
        f"that ends {never.outcome}" if never.outcome else "",
    ]
    if never.more_than is not None:
        number = never.more_than.runs if never.more_than.calls is None else never.more_than.calls
        words.append(f"more than {number} times in {text(never.more_than.per)}")
    if never.condition is not None:
        labels = ", ".join(f"{name}={value}" for name, value in never.condition.alert.items())
        words.append(f"while an alert with {labels} fires")
    return " ".join(filter(None, words))
