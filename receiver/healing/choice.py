"""Which of its alerts is a target decided on?

Several alerts may ask for one strategy on one target. Each is judged alone: whether it fires, is
silenced, is in maintenance, whether its `when` holds. One that may be acted on is enough. Those
that fire with it are asked about after the action, and the decision names those that are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

import msgspec

from receiver.healing.asked import Also, Asked, Case, assumed
from receiver.healing.facts import Facts
from receiver.journal import Episode
from receiver.policy.apart import apart
from receiver.policy.decay import longest
from receiver.policy.guards.reasons import OVER
from receiver.policy.guards.situation import Answer, Situation, Verdict
from receiver.policy.signal import UNASKED, Signal, SignalDoubt, Silencing

MOST: Final = 20
"""Alerts of a target that are asked about before an action."""
PROVEN: Final = 5
"""Alerts that a proof looks at."""
_NAMED: Final = 5
"""Alerts that a decision names as left out."""
_REASON: Final = 120
"""Characters of the reason that is given for each."""

_BEYOND: Final = msgspec.structs.replace(
    UNASKED,
    detail=f"more than {MOST} alerts ask for this target, and no more are asked about at once",
)


class _Judged(msgspec.Struct, frozen=True):
    """One alert, and what would be decided if it were the only one."""

    name: str
    asked: Asked
    verdict: Verdict
    refused: Verdict | None
    """Why it does not ask for an action, apart from what its target says."""


def choose(
    facts: Facts, case: Case, episodes: Sequence[Episode], situation: Situation | None
) -> Asked:
    """Ask about the alerts of a target until one may be acted on, and then which ask with it.

    *episodes* are those that ask, the latest first; beyond `MOST` the rest counts as one unknown
    alert. *situation* is what a `glance` has seen of the first; None where there is a single one,
    and nobody to ask about it. Where none may be acted on, the answer is of the one that can be
    decided anew first.
    """
    if situation is None:
        return facts.unasked(case, episodes[0]) if episodes else Asked()
    names = apart([episode.alert.labels for episode in episodes])
    judged: list[_Judged] = []
    standing: list[_Judged] = []
    blind: Asked | None = None
    for position, (name, episode) in enumerate(zip(names, episodes, strict=True)):
        of_it = facts.for_alert(situation, case, episode)
        if position == MOST and standing:
            break
        if position < MOST:
            asked = facts.ask(case, episode, of_it, blind)
        else:
            asked = assumed(case, episode, _BEYOND)
        decision = facts.decide_by(of_it, asked)
        one = _Judged(name, asked, decision.verdict, decision.refusal_of_the_alert(of_it))
        judged.append(one)
        if one.refused is None:
            standing.append(one)
            if not asked.complete or len(standing) == PROVEN:
                break  # the target's own obstacle stops all of them
        if asked.answered and _is_blind(asked):
            if standing:
                break
            unasked = msgspec.structs.replace(asked.upstream, silencing=Silencing(), suspect="")
            blind = msgspec.structs.replace(asked, complete=False, upstream=unasked)
        if asked.upstream.silencing.unknown:
            break  # do not wait for Alertmanager again
    chosen = standing[0] if standing else _first(judged)
    also = [one for one in standing[1:] if one.asked.upstream.signal is Signal.FIRING]
    unproven = len(episodes) - len(judged) if chosen.asked.complete and standing else 0
    together = [chosen, *also]
    return msgspec.structs.replace(
        chosen.asked,
        also=tuple(_also(one.asked) for one in also),
        over=tuple(_over(judged)),
        cleared=tuple(each for one in judged for each in one.asked.cleared),
        left_out=_left_out([one for one in judged if one is not chosen], unproven),
        unproven=unproven,
        decay=longest(one.asked.decay for one in together),
        alert_decay=longest(one.asked.alert_decay for one in together),
    )


def _first(judged: Iterable[_Judged]) -> _Judged:
    """Return the refusal that can be decided anew first; waiting ranks before denied."""

    def rank(one: _Judged) -> tuple[bool, float]:
        until = one.verdict.until
        return one.verdict.answer is Answer.DENY, inf if until is None else until

    return min(judged, key=rank)


def _also(asked: Asked) -> Also:
    assert asked.episode is not None
    return Also(
        episode=asked.episode,
        value=asked.value,
        expression=asked.expression,
        binding=None if asked.query_fault else asked.binding,
        query=asked.query,
    )


def _is_blind(asked: Asked) -> bool:
    upstream = asked.upstream
    return upstream.signal is Signal.UNKNOWN and upstream.doubt is SignalDoubt.BLIND


def _over(judged: Iterable[_Judged]) -> Iterable[int]:
    for one in judged:
        refused, episode = one.refused, one.asked.episode
        if refused is not None and refused.reason in OVER:
            assert episode is not None
            yield episode.id


def _left_out(others: Iterable[_Judged], unproven: int) -> str:
    refused = [(one.name, one.refused) for one in others if one.refused is not None]
    said = [
        f"{name} ({': '.join(filter(None, (why.reason, _shortened(why.detail))))})"
        for name, why in refused[:_NAMED]
    ]
    if len(refused) > _NAMED:
        said.append(f"and {len(refused) - _NAMED} more")
    left_out = f"left out: {', '.join(said)}" if said else ""
    unasked = f"at least {unproven} more of its alerts were not asked about" if unproven else ""
    return "; ".join(filter(None, (left_out, unasked)))


def _shortened(detail: str) -> str:
    return detail if len(detail) <= _REASON else f"{detail[: _REASON - 1]}…"
