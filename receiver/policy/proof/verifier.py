"""Does the bound alert still fire? Everything is asked about now first, then what has ended.

Never raises for what the source answers or fails to answer: that is `unknown`, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from receiver.errors import UpstreamError
from receiver.policy.promql import Rule, Sample
from receiver.policy.proof.binding import ALWAYS_SET, Binding, differing
from receiver.policy.proof.ended import Explanation
from receiver.policy.proof.judge import Judge
from receiver.policy.proof.judgement import Judgement, unanswered, undecided
from receiver.policy.proof.lost_questions import Questions
from receiver.policy.proof.parts import TOLERANCE, PartAnswers, Parts
from receiver.policy.proof.question import MOST_LOST, Timing, returned
from receiver.policy.proof.restricted import Restricted, restricted
from receiver.policy.proof.source import NO_TIME, ProofSource, answered, incomplete, shown
from receiver.policy.proof.syntax import parse
from receiver.policy.proof.tree import Tree
from receiver.policy.proof.value import Kind, Value
from receiver.policy.signal import Signal
from receiver.policy.strategy import Expect

_LEAST_AGE: Final = 0.001
_NOTHING: Final[frozenset[str]] = frozenset()


def look(
    source: ProofSource,
    binding: Binding,
    *,
    since: float,
    now: float,
    expect: Expect = Expect.EMPTY,
    accept_gone: bool = False,
) -> Judgement:
    """Return whether the alert still fires, at *now* by promheal's clock.

    *since* is when the last action ended, by the same clock; 0 before acting, when any sample
    within the server's lookback (5 minutes by default) will do. *accept_gone*: what is gone for
    good needs no successor.
    """
    try:
        tree = parse(binding.expression)
    except ValueError as error:
        return undecided(f"the expression cannot be read: {error}; give a `verify.query`")
    looking = _Look(source, binding, tree, accept_gone=accept_gone)
    try:
        problem = looking.ask(since, now)
        judgement = undecided(problem) if problem else looking.judgement(expect)
        return msgspec.structs.replace(judgement, lag=looking.lag)
    except UpstreamError as error:
        return unanswered(error)
    except ValueError as error:
        return undecided(str(error))


class _Look:
    """One answer and its follow-up questions, all about one moment."""

    _timing: Timing
    _asked: Restricted
    _answer: PartAnswers
    lag: float = 0.0
    """Seconds by which the answer lies in the past."""

    def __init__(
        self, source: ProofSource, binding: Binding, tree: Tree, *, accept_gone: bool
    ) -> None:
        self._source = source
        self._binding = binding
        self._tree = tree
        self._accept_gone = accept_gone
        self._recordings: Mapping[str, tuple[Rule, ...]] = {}
        self._old: Mapping[str, tuple[str, ...]] | None = {}
        self._names = _NOTHING
        """Labels that the alert's series has and its successor has not."""

    def ask(self, since: float, now: float) -> str:
        """Ask everything about now; return why the answer is unusable, or an empty text."""
        self._recordings = self._source.recordings()
        self._asked = restricted(self._tree, self._binding.labels, self._recordings)
        lag = self._binding.lag
        # A server that answers for an older moment than before moves what counts as new.
        for _ in range(2):
            self._timing = _timing_of(self._binding, since, now - lag)
            parts = _parts(self._asked, self._timing)
            self._answer = answered(self._source, parts, parts.query(self._tree))
            if self._answer.at is None:
                return NO_TIME
            behind = self.lag = self._answer.behind(now)
            if since <= 0 or behind <= lag + TOLERANCE:
                return ""
            lag = behind
        return f"the server answers for {lag:.0f} s ago, and not steadily"

    def judgement(self, expect: Expect) -> Judgement:
        """Return what the answer proves."""
        mine = _mine(self._binding, self._answer.returned)
        value = None if mine is None else mine.value
        if mine is not None and expect is Expect.EMPTY:
            return Judgement(signal=Signal.FIRING, value=value, detail=f"returned: {shown(mine)}")
        problem = incomplete(self._answer.warnings) or self._history()
        proven = self._value(self._asked, self._answer)
        if problem or proven.is_open:
            return undecided(problem or proven.why, value)
        if expect is Expect.EMPTY:
            return self._cleared(proven)
        if mine is None:
            return Judgement(signal=Signal.FIRING, detail="not returned, and the data is there")
        detail = f"returned, as it should: {shown(mine)}"
        return Judgement(signal=Signal.CLEARED, value=value, detail=detail)

    def _history(self) -> str:
        """Return why nothing that it reads is from after the action, or an empty text."""
        read = [place for place in self._asked.places.values() if not place.pinned]
        if not read or not all(map(self._timing.reads_history, read)):
            return ""
        return "all that it reads is from before the action as yet, for it has an offset"

    def _cleared(self, proven: Value) -> Judgement:
        """Judge an alert that is not returned, with nothing missing that it rests on."""
        root = self._tree.root
        if self._tree.chooses and self._answer.number(returned(self._asked, root)):
            return undecided("still true for its series; only others rank before it")
        if proven.kind is Kind.PRESENT:
            return undecided("not returned, though no condition of it is false")
        return self._successor() or Judgement(
            signal=Signal.CLEARED, detail="no longer returned: its condition is false"
        )

    def _value(self, asked: Restricted, answer: PartAnswers) -> Value:
        """Return what *answer* proves; where series have ended, what became of them is asked."""
        reading = _Answered(answer)
        judge = Judge(self._timing, reading, lambda _: None)
        value = judge.root(asked)
        if not judge.lost or any(len(each.rows) > MOST_LOST for each in judge.lost):
            return value
        questions = Questions(
            judge.lost, self._timing, self._binding.well_at, accept_gone=self._accept_gone
        )
        first = self._more(questions.ask)
        assert first is not None
        second = self._more(lambda parts: questions.ask_about_objects(first, parts))
        became = Explanation(questions, first, second)
        self._old = became.old()
        self._names = became.names()
        return Judge(self._timing, reading, lambda lost: became.fates[lost.key].value).root(asked)

    def _successor(self) -> Judgement | None:
        """Judge what took the alert's place; None where nothing speaks against health.

        Everything is asked once more without the labels that told the alert's series from others,
        and without the series that were there before.
        """
        names, old = self._names, self._old
        if not names:
            return None
        if old is None:
            return undecided("too many series were there before to tell its successor")
        rest = {name: v for name, v in self._binding.labels.items() if name not in names}
        asked = restricted(self._tree, rest, self._recordings, excluded=old)
        whole = returned(asked, asked.tree.root)
        parts = _parts(asked, self._timing)
        parts.add(whole)
        answer = answered(self._source, parts, parts.query(), self._answer.at)
        if answer.number(whole):
            return Judgement(
                signal=Signal.FIRING, detail="what took the place of its series fires too"
            )
        problem = incomplete(answer.warnings)
        value = self._value(asked, answer)
        if problem or value.kind in {Kind.UNKNOWN, Kind.PRESENT}:
            return undecided(
                problem or value.why or "not returned, though no condition of it is false"
            )
        return Judgement(
            signal=Signal.CLEARED, detail="its series were replaced, and their successors are well"
        )

    def _more(self, fill: Callable[[Parts], object]) -> PartAnswers | None:
        """Ask what *fill* adds, about the same moment; None when it adds nothing."""
        parts = Parts()
        if fill(parts) is False:
            return None
        return answered(self._source, parts, parts.query(), self._answer.at)


class _Answered:
    def __init__(self, answer: PartAnswers) -> None:
        self._answer = answer
        self.number = answer.number

    def rows(self, part: str) -> tuple[Sample, ...]:
        return self._answer.rows.get(part, ())


class _Recorder:
    """A PartReader that notes what is read."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def number(self, part: str) -> float | None:
        self._parts.add(part)
        return None

    def rows(self, part: str) -> tuple[Sample, ...]:
        self._parts.add(part)
        return ()


def _parts(asked: Restricted, timing: Timing) -> Parts:
    """Return all parts that judging *asked* reads."""
    parts = Parts()
    Judge(timing, _Recorder(parts), lambda _: None).root(asked)
    if asked.tree.chooses:
        parts.add(returned(asked, asked.tree.root))
    return parts


def _timing_of(binding: Binding, since: float, at: float) -> Timing:
    age = None if since <= 0 else max(at - since, _LEAST_AGE)
    return Timing(age, binding.fed_at)


def _mine(binding: Binding, samples: Iterable[Sample]) -> Sample | None:
    """Return the alert's own series, if it is among *samples*."""
    for sample in samples:
        labels = {name: value for name, value in sample.labels.items() if name != "__name__"}
        if labels == binding.labels:
            return sample
        if binding.own and not differing(labels, binding.labels, ALWAYS_SET):
            return sample
    return None
