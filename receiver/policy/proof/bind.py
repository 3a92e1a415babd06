"""Is it this Prometheus' alert, and which series is its own?

Asked before the action; the Binding is kept with the run. Never raises for what the source answers
or fails to answer: that is `unknown`, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from receiver.errors import UpstreamError
from receiver.policy.promql import Rule
from receiver.policy.proof.binding import Binding, Matched, find
from receiver.policy.proof.judgement import Judgement, unanswered, undecided
from receiver.policy.proof.parts import PartAnswers, Parts
from receiver.policy.proof.source import NO_TIME, ProofSource, answered, incomplete, shown
from receiver.policy.proof.syntax import parse
from receiver.policy.proof.verifier import look
from receiver.policy.signal import Signal, SignalDoubt


def bind(
    source: ProofSource,
    alert_labels: Mapping[str, str],
    expression: str,
    rule: Rule | None,
    *,
    now: float,
    starts_at: float = 0.0,
    well_at: float = 0.0,
) -> Judgement:
    """Return whether *source* returns the alert now, and bind it to its series.

    An alert that is not returned now is looked for at *starts_at*, and once more an evaluation
    later; only then can it be said that it has cleared. *expression* is the rule's where there is
    one. *well_at* is a moment before it fired at all, 0 where that is unknown.
    """
    try:
        asking = _Asking(source, alert_labels, expression, rule)
        answer = asking.at(None)
        if answer.at is None:
            return undecided(NO_TIME)
        lag = answer.behind(now)
        found = asking.find(answer)
        if found.sample is not None:
            return _firing(expression, found, answer.at, lag, well_at)
        if found.note:
            return Judgement(Signal.UNKNOWN, None, found.note, doubt=SignalDoubt.ELSEWHERE)
        for then in _earlier(starts_at, 0.0 if rule is None else rule.interval):
            earlier = asking.find(asking.at(then))
            if earlier.sample is None or earlier.ambiguous:
                continue
            binding = Binding(
                expression=expression,
                labels=earlier.sample.labels,
                fed_at=then,
                lag=lag,
                well_at=well_at,
            )
            seen = look(source, binding, since=0.0, now=now)
            return msgspec.structs.replace(seen, binding=binding)
    except UpstreamError as error:
        return unanswered(error)
    return undecided(
        incomplete(answer.warnings)
        or "this Prometheus returns no such alert, neither now nor when it began"
    )


class _Asking:
    """What one Prometheus returns for an alert's expression."""

    def __init__(
        self,
        source: ProofSource,
        alert_labels: Mapping[str, str],
        expression: str,
        rule: Rule | None,
    ) -> None:
        self._source = source
        self._alert_labels = alert_labels
        self._rule = rule
        self._sending = source.sending()
        self._query = Parts().query(text=_text(expression))

    def at(self, moment: float | None) -> PartAnswers:
        return answered(self._source, Parts(), self._query, moment)

    def find(self, answer: PartAnswers) -> Matched:
        return find(answer.returned, self._alert_labels, self._rule, self._sending)


def _text(expression: str) -> str:
    try:
        tree = parse(expression)
    except ValueError:
        return expression  # the server may read what we cannot
    return f"vector({expression}\n)" if tree.is_scalar else expression


def _firing(expression: str, found: Matched, at: float, lag: float, well_at: float) -> Judgement:
    sample = found.sample
    assert sample is not None
    binding = Binding(
        expression=expression, labels=sample.labels, fed_at=at, lag=lag, well_at=well_at
    )
    note = f"; {found.note}" if found.note else ""
    return Judgement(
        signal=Signal.FIRING,
        value=sample.value,
        detail=f"returned: {shown(sample)}{note}",
        binding=None if found.ambiguous else binding,
    )


def _earlier(starts_at: float, interval: float) -> Iterator[float]:
    if starts_at > 0:
        yield starts_at
        if interval > 0:
            yield starts_at + interval
