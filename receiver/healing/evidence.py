"""Have all the alerts that asked for an action cleared?

A target is healed when none of them fires any more. A single one that fires disproves it, and while
one cannot be judged nothing is proven.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from receiver.config.in_force import Verifier
from receiver.policy.apart import apart
from receiver.policy.proof.binding import Binding
from receiver.policy.proof.judgement import Judgement
from receiver.policy.run import Plan
from receiver.policy.signal import Signal
from receiver.policy.strategy import Expect, Gone


class _Bound(msgspec.Struct, frozen=True):
    """An alert, and what is asked about it; None where its series is not known."""

    labels: Mapping[str, str]
    binding: Binding | None


def look(verifier: Verifier, plan: Plan, *, acted_at: float, since: float) -> Judgement:
    """Ask about each alert of *plan*, until one fires, by data newer than *since*."""
    bound = _every(plan, acted_at)
    names = apart([each.labels for each in bound])
    said: list[tuple[str, Judgement]] = []
    for name, each in zip(names, bound, strict=True):
        judgement = verifier.look(
            each.binding,
            since=since,
            expect=Expect(plan.verify_expect),
            accept_gone=plan.verify_gone == Gone.ACCEPT,
        )
        said.append((name, judgement))
        if judgement.signal is Signal.FIRING or judgement.unasked:
            break  # the others cannot change the result
    return _together(said, len(bound), plan.unproven)


def _together(said: Sequence[tuple[str, Judgement]], number: int, unproven: int) -> Judgement:
    name, decisive = max(said, key=_weight)
    detail = decisive.detail
    if number > 1:
        which = f"all {number} alerts" if decisive.signal is Signal.CLEARED else f"1 of {number}"
        detail = f"{which}: {name}: {detail}"
    if unproven and decisive.signal is Signal.CLEARED:
        detail += "; further alerts of the target are not looked at"
    lag = max(judgement.lag for _, judgement in said)
    return msgspec.structs.replace(decisive, detail=detail, lag=lag)


def _weight(said: tuple[str, Judgement]) -> int:
    _, judgement = said
    if judgement.signal is Signal.FIRING:
        return 3
    if judgement.signal is Signal.UNKNOWN:
        return 2 if judgement.unasked else 1
    return 0


def _every(plan: Plan, acted_at: float) -> list[_Bound]:
    """Return what is asked about each alert; the same query for several is asked once."""
    first = _bound(plan, plan.binding, plan.verify_query, acted_at)
    found = [_Bound(plan.alert.get("labels", {}), first)]
    asked = {_question(first)}
    for each in plan.also:
        binding = _bound(plan, each.binding, each.verify_query, acted_at)
        if binding is None or _question(binding) not in asked:
            asked.add(_question(binding))
            found.append(_Bound(each.labels, binding))
    return found


def _question(binding: Binding | None) -> tuple[str, tuple[tuple[str, str], ...]] | None:
    if binding is None:
        return None
    return binding.expression, tuple(sorted(binding.labels.items()))


def _bound(
    plan: Plan, binding: dict[str, Any] | None, query: str | None, acted_at: float
) -> Binding | None:
    bound = None if binding is None else msgspec.convert(binding, Binding)
    if query is None:
        return bound
    return Binding(
        expression=query,
        labels=plan.target_labels,
        fed_at=acted_at if bound is None else bound.fed_at,
        lag=0.0 if bound is None else bound.lag,
        own=True,
    )
