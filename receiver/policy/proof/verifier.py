"""The order of the questions: is it this Prometheus' alert, does it still fire, what has ended?

    bind(source, …) before the action ──► Binding, kept with the run
    look(source, binding, …) after it ──► Judgement

Neither raises for what the source answers, or does not: that is `unknown`, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

import msgspec

from receiver.errors import UpstreamError
from receiver.policy.promql import Rule, Sample, Samples
from receiver.policy.proof.binding import ALWAYS_SET, Binding, Found, differing, find
from receiver.policy.proof.ended import Questions, identity
from receiver.policy.proof.judgement import Judge, Kind, Value, chooses
from receiver.policy.proof.question import (
    MOST_LOST,
    TOLERANCE,
    Answer,
    Moment,
    Parts,
    Restricted,
    restricted,
    returned,
)
from receiver.policy.proof.syntax import Tree, parse
from receiver.policy.relabel import Sending
from receiver.policy.signal import Signal, SignalDoubt
from receiver.policy.strategy import Expect

_LEAST_AGE: Final = 0.001
_NOTHING: Final[frozenset[str]] = frozenset()
_NO_TIME: Final = "the server did not say for which moment it answered"


class Source(Protocol):
    """Prometheus. All raise UpstreamError when there is no usable answer."""

    def query(self, expr: str, at: float | None = None) -> Samples: ...

    def recordings(self) -> Mapping[str, tuple[Rule, ...]]:
        """Return the rules that make series, by the name of these."""

    def sending(self) -> Sending | None:
        """Return how it labels the alerts that it sends; None where it does not say."""


class Judgement(msgspec.Struct, frozen=True):
    signal: Signal
    value: float | None = None
    """Of the series that is returned; may be NaN or infinite."""
    detail: str = ""
    """For the operator: what is returned, what is missing."""
    suspect: str = ""
    """Why the rule itself tells nothing now."""
    doubt: SignalDoubt = SignalDoubt.DATA
    """Why, if the signal is unknown."""
    expression: str | None = None
    """What was asked: the rule's, or of somebody who may stand for it."""
    binding: Binding | None = None
    """The alert's series, where it is returned now or was when the alert began."""
    lag: float = 0.0
    """Seconds by which the moment that was asked about lies before it."""

    @property
    def unasked(self) -> bool:
        """Prometheus could not be asked: it says nothing of the target."""
        return self.signal is Signal.UNKNOWN and self.doubt in {
            SignalDoubt.BLIND,
            SignalDoubt.NOBODY,
        }


UNBOUND_ALERT: Final = Judgement(
    Signal.UNKNOWN,
    None,
    "it could not be told which series of Prometheus is this alert's: give a `verify.query`",
)
"""Of an alert that was acted on although no series, or more than one, may be its."""


def unanswered(error: UpstreamError) -> Judgement:
    doubt = SignalDoubt.DATA if error.refused else SignalDoubt.BLIND
    return Judgement(Signal.UNKNOWN, None, str(error), doubt=doubt)


def bind(
    source: Source,
    alert_labels: Mapping[str, str],
    expression: str,
    rule: Rule | None,
    *,
    now: float,
    starts_at: float = 0.0,
    well_at: float = 0.0,
) -> Judgement:
    """Say whether *source* returns the alert now, and bind it to its series.

    An alert that is not returned now is looked for at *starts_at*, and once more an evaluation
    later; only then can it be said that it has cleared. *expression* is the rule's where there is
    one. *well_at* is a moment before it fired at all, 0 when that is not known.
    """
    try:
        asking = _Asking(source, alert_labels, expression, rule)
        answer = asking.at(None)
        if answer.at is None:
            return _unknown(_NO_TIME)
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
    return _unknown(
        _partial(answer.warnings)
        or "this Prometheus returns no such alert, neither now nor when it began"
    )


class _Asking:
    """What one Prometheus returns for an alert's expression."""

    def __init__(
        self, source: Source, alert_labels: Mapping[str, str], expression: str, rule: Rule | None
    ) -> None:
        self._source = source
        self._alert_labels = alert_labels
        self._rule = rule
        self._sending = source.sending()
        self._query = Parts().query(text=_text(expression))

    def at(self, moment: float | None) -> Answer:
        return _asked(self._source, Parts(), self._query, moment)

    def find(self, answer: Answer) -> Found:
        return find(answer.returned, self._alert_labels, self._rule, self._sending)


def look(
    source: Source,
    binding: Binding,
    *,
    since: float,
    now: float,
    expect: Expect = Expect.EMPTY,
    accept_gone: bool = False,
) -> Judgement:
    """Say whether the alert still fires, at *now* by promheal's clock.

    *since* is when the last action had ended, by the same clock; 0 before acting, when any sample
    that the server still looks back to (5 minutes by default) will do. *accept_gone*: what is gone
    for good need not have a successor.
    """
    try:
        tree = parse(binding.expression)
    except ValueError as error:
        return _unknown(f"the expression cannot be read: {error}; give a `verify.query`")
    looking = _Look(source, binding, tree, accept_gone=accept_gone)
    try:
        problem = looking.ask(since, now)
        judgement = _unknown(problem) if problem else looking.judgement(expect)
        return msgspec.structs.replace(judgement, lag=looking.lag)
    except UpstreamError as error:
        return unanswered(error)
    except ValueError as error:
        return _unknown(str(error))


class _Look:
    """One answer, and what is asked because of it, all at one moment."""

    _moment: Moment
    _asked: Restricted
    _answer: Answer
    lag: float = 0.0
    """Seconds by which the answer is about the past."""

    def __init__(self, source: Source, binding: Binding, tree: Tree, *, accept_gone: bool) -> None:
        self._source = source
        self._binding = binding
        self._tree = tree
        self._accept_gone = accept_gone
        self._recordings: Mapping[str, tuple[Rule, ...]] = {}
        self._old: Mapping[str, tuple[str, ...]] | None = {}
        self._names = _NOTHING
        """Labels of the alert's series that its successor has not."""

    def ask(self, since: float, now: float) -> str:
        """Ask everything about now; return why the answer is of no use, or an empty text."""
        self._recordings = self._source.recordings()
        self._asked = restricted(self._tree, self._binding.labels, self._recordings)
        lag = self._binding.lag
        # Where it answers for an older moment than it did, what counts as new is older too.
        for _ in range(2):
            self._moment = _moment(self._binding, since, now - lag)
            parts = _parts(self._asked, self._moment)
            self._answer = _asked(self._source, parts, parts.query(self._tree))
            if self._answer.at is None:
                return _NO_TIME
            behind = self.lag = self._answer.behind(now)
            if since <= 0 or behind <= lag + TOLERANCE:
                return ""
            lag = behind
        return f"the server answers for {lag:.0f} s ago, and not steadily"

    def judgement(self, expect: Expect) -> Judgement:
        """Say what the answer proves."""
        mine = _mine(self._binding, self._answer.returned)
        value = None if mine is None else mine.value
        if mine is not None and expect is Expect.EMPTY:
            return Judgement(signal=Signal.FIRING, value=value, detail=f"returned: {_show(mine)}")
        problem = _partial(self._answer.warnings) or self._history()
        proven = self._value(self._asked, self._answer)
        if problem or proven.is_open:
            return _unknown(problem or proven.why, value)
        if expect is Expect.EMPTY:
            return self._cleared(proven)
        if mine is None:
            return Judgement(signal=Signal.FIRING, detail="not returned, and the data is there")
        detail = f"returned, as it should: {_show(mine)}"
        return Judgement(signal=Signal.CLEARED, value=value, detail=detail)

    def _history(self) -> str:
        """Why nothing that it reads tells of the time after the action; empty if something does."""
        read = [place for place in self._asked.places.values() if not place.pinned]
        if not read or not all(map(self._moment.reads_history, read)):
            return ""
        return "all that it reads is from before the action as yet, for it has an offset"

    def _cleared(self, proven: Value) -> Judgement:
        """It is not returned, and nothing that it rests on is missing."""
        root = self._tree.root
        if chooses(root) and self._answer.number(returned(self._asked, root)):
            return _unknown("still true for its series; only others rank before it")
        if proven.kind is Kind.PRESENT:
            return _unknown("not returned, though no condition of it is false")
        return self._successor() or Judgement(
            signal=Signal.CLEARED, detail="no longer returned: its condition is false"
        )

    def _value(self, asked: Restricted, answer: Answer) -> Value:
        """Return what *answer* proves; where series have ended, what became of them is asked."""
        reading = _Answered(answer)
        judge = Judge(self._moment, reading, lambda _: None)
        value = judge.root(asked)
        if not judge.lost or any(len(each.rows) > MOST_LOST for each in judge.lost):
            return value
        questions = Questions(
            judge.lost, self._moment, self._binding.well_at, accept_gone=self._accept_gone
        )
        first = self._more(questions.ask)
        assert first is not None
        second = self._more(lambda parts: questions.ask_about_objects(first, parts))
        became = questions.explain(first, second)
        self._old = questions.old(first, became)
        self._names = _NOTHING.union(*(identity(e, became[e.key].moved) for e in judge.lost))
        return Judge(self._moment, reading, lambda lost: became[lost.key].value).root(asked)

    def _successor(self) -> Judgement | None:
        """Judge what took the alert's place, if anything did; None: nothing speaks against health.

        Everything is asked once more without the labels that told the alert's series from others,
        and without the series that were there before.
        """
        names, old = self._names, self._old
        if not names:
            return None
        if old is None:
            return _unknown("too many series were there before to tell its successor")
        rest = {name: v for name, v in self._binding.labels.items() if name not in names}
        asked = restricted(self._tree, rest, self._recordings, excluded=old)
        whole = returned(asked, asked.tree.root)
        parts = _parts(asked, self._moment)
        parts.add(whole)
        answer = _asked(self._source, parts, parts.query(), self._answer.at)
        if answer.number(whole):
            return Judgement(
                signal=Signal.FIRING, detail="what took the place of its series fires too"
            )
        problem = _partial(answer.warnings)
        value = self._value(asked, answer)
        if problem or value.kind in {Kind.UNKNOWN, Kind.PRESENT}:
            return _unknown(
                problem or value.why or "not returned, though no condition of it is false"
            )
        return Judgement(
            signal=Signal.CLEARED, detail="its series were replaced, and their successors are well"
        )

    def _more(self, fill: Callable[[Parts], object]) -> Answer | None:
        """Ask what *fill* adds, about the same moment; None when it adds nothing."""
        parts = Parts()
        if fill(parts) is False:
            return None
        return _asked(self._source, parts, parts.query(), self._answer.at)


class _Answered:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.number = answer.number

    def rows(self, part: str) -> tuple[Sample, ...]:
        return self._answer.rows.get(part, ())


class _Recorder:
    """Notes what is read."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def number(self, part: str) -> float | None:
        self._parts.add(part)
        return None

    def rows(self, part: str) -> tuple[Sample, ...]:
        self._parts.add(part)
        return ()


def _parts(asked: Restricted, moment: Moment) -> Parts:
    """Return all parts that judging *asked* reads."""
    parts = Parts()
    Judge(moment, _Recorder(parts), lambda _: None).root(asked)
    if chooses(asked.tree.root):
        parts.add(returned(asked, asked.tree.root))
    return parts


def _moment(binding: Binding, since: float, at: float) -> Moment:
    age = None if since <= 0 else max(at - since, _LEAST_AGE)
    return Moment(age, binding.fed_at)


def _asked(source: Source, parts: Parts, query: str, at: float | None = None) -> Answer:
    return parts.read(source.query(query, at))


def _text(expression: str) -> str:
    try:
        tree = parse(expression)
    except ValueError:
        return expression  # the server may read what we cannot
    return f"vector({expression}\n)" if tree.is_scalar else expression


def _firing(expression: str, found: Found, at: float, lag: float, well_at: float) -> Judgement:
    sample = found.sample
    assert sample is not None
    binding = Binding(
        expression=expression, labels=sample.labels, fed_at=at, lag=lag, well_at=well_at
    )
    note = f"; {found.note}" if found.note else ""
    return Judgement(
        signal=Signal.FIRING,
        value=sample.value,
        detail=f"returned: {_show(sample)}{note}",
        binding=None if found.ambiguous else binding,
    )


def _earlier(starts_at: float, interval: float) -> Iterator[float]:
    if starts_at > 0:
        yield starts_at
        if interval > 0:
            yield starts_at + interval


def _mine(binding: Binding, samples: Iterable[Sample]) -> Sample | None:
    """The alert's own series, if it is returned."""
    for sample in samples:
        labels = {name: value for name, value in sample.labels.items() if name != "__name__"}
        if labels == binding.labels:
            return sample
        if binding.own and not differing(labels, binding.labels, ALWAYS_SET):
            return sample
    return None


def _partial(warnings: Iterable[str]) -> str:
    """Of the warnings, those about PromQL itself do not say that data is missing."""
    for text in warnings:
        if not text.startswith("PromQL "):
            return f"the answer may be incomplete: {text}"
    return ""


def _unknown(detail: str, value: float | None = None) -> Judgement:
    return Judgement(signal=Signal.UNKNOWN, value=value, detail=detail)


def _show(sample: Sample) -> str:
    labels = ", ".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
    labels = labels if len(labels) <= 200 else labels[:200] + "…"
    return f"{{{labels}}} = {sample.value:g}"
