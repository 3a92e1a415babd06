"""Did it heal?

A heal is proven when the expression no longer returns this alert's series *and* the data is there:
each selector of the expression has a sample for this alert that is newer than the last action, and
the rule can be evaluated. An empty answer alone is also what a dead target gives.

    observe(prometheus, …) ──► Evidence ──► judge(evidence, …) ──► Judgement

What follows from a judgement, and when to look again, says looks.py. `judge` is a function of
values. `observe` only knows the order of the questions; who asks them is passed in. Whatever is
uncertain counts against the heal: it is `UNKNOWN`, never `CLEARED`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from receiver.errors import UpstreamError
from receiver.guards.situation import Signal
from receiver.promql import Expression, Rule, Sample, Samples, Selector, read, same_expression
from receiver.strategy import Expect

_MARK: Final = "__promheal__"
"""The label that tells the parts of one answer apart."""
_RESULT: Final = "result"
_ALWAYS_SET: Final = frozenset({"__name__", "alertname"})
"""Labels that every rule overwrites or drops."""


class Source(Protocol):
    """Prometheus. Both raise UpstreamError when there is no usable answer."""

    def query(self, expr: str, at: float | None = None) -> Samples: ...

    def rules(self, alertname: str | None = None) -> tuple[Rule, ...]: ...


class Row(msgspec.Struct, frozen=True):
    """The newest sample of the series that share some labels."""

    labels: dict[str, str]
    at: float
    """Seconds since the epoch, by promheal's clock."""


class SelectorData(msgspec.Struct, frozen=True):
    """What is there for one selector that a healthy state must have data for."""

    selector: Selector
    rows: tuple[Row, ...]
    """By the alert's labels."""
    carried: frozenset[str] = frozenset()
    """Labels of the alert that some of its series carry, besides those in `rows`."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What Prometheus said at one moment."""

    samples: tuple[Sample, ...] = ()
    """What the expression returns."""
    selectors: tuple[SelectorData, ...] = ()
    """Without the optional ones."""
    rule: Rule | None = None
    """The alert's rule, if Prometheus knows it."""
    own_query: bool = False
    """The expression is the operator's: whether the rule can be evaluated does not matter."""
    warnings: tuple[str, ...] = ()
    error: str = ""
    """Why something could not be asked."""
    unasked: bool = False
    """It could not, because Prometheus gave no usable answer."""

    @property
    def set_by_rule(self) -> frozenset[str]:
        """Labels of the alert that say nothing about its series."""
        return _ALWAYS_SET.union(self.rule.labels if self.rule else ())


class Judgement(msgspec.Struct, frozen=True):
    signal: Signal
    value: float | None = None
    """Of the series that is returned; may be NaN or infinite."""
    detail: str = ""
    """For the operator: what is returned, what is missing."""
    suspect: str = ""
    """Why the rule itself tells nothing now."""
    unasked: bool = False
    """Nothing is known because Prometheus gave no usable answer: it says nothing of the target."""
    lag: float = 0.0
    """Seconds by which the moment that was evaluated lies before the one at which it was asked."""


# --- what to ask ----------------------------------------------------------------------------------


class Question(msgspec.Struct, frozen=True):
    """One PromQL query for the expression and for what it rests on.

    One, since both must be evaluated at the same moment: a target that comes back between two
    queries would give an empty answer from before its return, and a fresh sample from after it.
    """

    expression: Expression
    labels: Mapping[str, str]
    """The alert's, without those that say nothing about its series."""

    @property
    def asked(self) -> tuple[tuple[Selector, dict[str, str]], ...]:
        """Each selector that needs data, with the labels of the alert that can be from it."""
        return tuple(
            (selector, {n: v for n, v in sorted(self.labels.items()) if n in selector.flow})
            for selector in self.expression.selectors
            if not selector.optional
        )

    @property
    def query(self) -> str:
        """Return the expression's series and each selector's rows; `read` takes them apart.

        Samples are asked for by their age, which Prometheus' clock knows alone: it may differ from
        ours by more than a scrape interval.
        """
        text = self.expression.text
        parts = [_marked(f"vector({text})" if self.expression.is_scalar else text, _RESULT)]
        for index, (selector, labels) in enumerate(self.asked):
            parts.append(_marked(f"time() - {selector.newest(labels)}", str(index)))
        return "\nor ".join(parts)

    def read(
        self, answer: Iterable[Sample], now: float
    ) -> tuple[tuple[Sample, ...], tuple[SelectorData, ...]]:
        """Return what *answer*, asked for at *now*, says of the expression and its selectors."""
        samples: list[Sample] = []
        rows: list[list[Row]] = [[] for _ in self.asked]
        for sample in answer:
            labels = dict(sample.labels)
            mark = labels.pop(_MARK, _RESULT)
            if mark == _RESULT:
                samples.append(Sample(labels, sample.value, sample.at))
            else:
                rows[int(mark)].append(Row(labels, now - sample.value))
        data = zip(self.asked, rows, strict=True)
        return tuple(samples), tuple(SelectorData(s, tuple(found)) for (s, _), found in data)


def question(
    expression: str, alert_labels: Mapping[str, str], set_by_rule: Iterable[str] = ()
) -> Question:
    """Return what to ask about *expression*. Raises ValueError when it cannot be read."""
    said = _ALWAYS_SET.union(set_by_rule)
    return Question(
        read(expression), {name: v for name, v in alert_labels.items() if name not in said}
    )


def find_rule(
    rules: Iterable[Rule], alert_labels: Mapping[str, str], expression: str | None = None
) -> Rule | None:
    """Return the rule that an alert is from: the one that sets most of the alert's labels.

    *expression* is the rule's text as the alert has it, if it is known. Labels whose values are
    templates may have any value.
    """
    best: Rule | None = None
    most = -1
    for rule in rules:
        fixed = {name: value for name, value in rule.labels.items() if "{{" not in value}
        if (
            rule.name == alert_labels.get("alertname")
            and fixed.items() <= alert_labels.items()
            and (expression is None or same_expression(rule.query, expression))
            and len(fixed) > most
        ):
            best, most = rule, len(fixed)
    return best


def observe(
    source: Source,
    alert_labels: Mapping[str, str],
    expression: str | None,
    *,
    now: float,
    own_query: bool = False,
) -> Evidence:
    """Ask *source* whether the alert still fires, at *now* by promheal's clock.

    Two questions: the rule, and the expression with what it rests on. A third one follows only when
    the alert has labels that no series showed, such as external labels. Never raises for what
    *source* answers, or does not.

    *expression* is the rule's as the alert has it, None when it has none. *own_query*: it is the
    operator's instead.
    """
    try:
        rule = _rule(source, alert_labels, None if own_query else expression)
        evidence = Evidence(rule=rule, own_query=own_query)
        if _broken(evidence):
            return evidence
        text = expression or (rule.query if rule else None)
        if not text:
            return Evidence(
                error="neither the alert's generatorURL nor a rule of Prometheus gives the "
                "expression"
            )
        asked = question(text, alert_labels, evidence.set_by_rule)
        answer = source.query(asked.query)
        samples, data = asked.read(answer, now)
        warnings = answer.warnings
        if own_query or not _returned(samples, alert_labels, evidence.set_by_rule):
            data, more = _settled(source, asked, data)
            warnings += more
    except UpstreamError as error:
        return Evidence(error=str(error), unasked=not error.refused)
    except ValueError as error:
        return Evidence(error=f"the expression cannot be read: {error}")
    return msgspec.structs.replace(evidence, samples=samples, selectors=data, warnings=warnings)


def _rule(source: Source, alert_labels: Mapping[str, str], expression: str | None) -> Rule | None:
    """The alert's rule; after an edit of its expression, what has become of it."""
    name = alert_labels.get("alertname")
    if not name:
        return None
    rules = source.rules(name)
    return find_rule(rules, alert_labels, expression) or find_rule(rules, alert_labels)


def _settled(
    source: Source, asked: Question, data: Sequence[SelectorData]
) -> tuple[tuple[SelectorData, ...], tuple[str, ...]]:
    """Find out which labels that no row shows are carried by other series of the selector.

    If others carry the label, then the row without it is not this alert's.
    """
    if not all(each.rows for each in data):
        return tuple(data), ()
    unseen = [
        (index, name)
        for index, (each, (_, labels)) in enumerate(zip(data, asked.asked, strict=True))
        for name in labels
        if not any(name in row.labels for row in each.rows)
    ]
    if not unseen:
        return tuple(data), ()
    query = "\nor ".join(
        _marked(data[index].selector.carries(name), str(number))
        for number, (index, name) in enumerate(unseen)
    )
    answer = source.query(query)
    found = [unseen[int(sample.labels[_MARK])] for sample in answer]
    return tuple(
        SelectorData(each.selector, each.rows, frozenset(name for at, name in found if at == index))
        for index, each in enumerate(data)
    ), answer.warnings


def _marked(vector: str, mark: str) -> str:
    return f'label_replace({vector}, "{_MARK}", "{mark}", "", "")'


# --- what it says ---------------------------------------------------------------------------------


def judge(
    evidence: Evidence,
    alert_labels: Mapping[str, str],
    *,
    since: float,
    expect: Expect = Expect.EMPTY,
) -> Judgement:
    """Say whether the alert still fires.

    *since* is when the last action had ended, by the same clock as the evidence; 0 before acting,
    when any sample that Prometheus still looks back to (5 minutes by default) will do.
    """
    broken = _broken(evidence)
    if evidence.error or broken:
        return Judgement(
            Signal.UNKNOWN, None, evidence.error or broken, broken, unasked=evidence.unasked
        )
    returned = _returned(evidence.samples, alert_labels, evidence.set_by_rule)
    value = returned.value if returned else None
    if returned and expect is Expect.EMPTY:
        return Judgement(Signal.FIRING, value, f"returned: {_show(returned)}")
    problem = _gap(evidence, alert_labels, since)
    if not problem and expect is Expect.EMPTY:
        problem = _doubt(evidence, alert_labels)
    if problem:
        return Judgement(Signal.UNKNOWN, value, problem)
    if returned:
        return Judgement(Signal.CLEARED, value, f"returned, as it should: {_show(returned)}")
    if expect is Expect.PRESENT:
        return Judgement(Signal.FIRING, None, "not returned, and the data is there")
    return Judgement(Signal.CLEARED, None, "no longer returned, and the data is there")


def _broken(evidence: Evidence) -> str:
    rule = evidence.rule
    if rule is None or evidence.own_query or rule.health != "err":
        return ""
    return f"Prometheus cannot evaluate the rule {rule.name}: {rule.last_error}"


def _returned(
    samples: Iterable[Sample], alert_labels: Mapping[str, str], set_by_rule: frozenset[str]
) -> Sample | None:
    """The alert's series, if it is there: of several that may be, the one with most of its labels.

    A label that only one of both has does not tell them apart: external labels are added to
    alerts, and relabelling drops some. Of a series that may be ours, we assume that it is.
    """
    ours = (s for s in samples if not _differing(s.labels, alert_labels, set_by_rule))
    return max(ours, key=lambda s: len(s.labels.keys() & alert_labels.keys()), default=None)


def _differing(
    labels: Mapping[str, str], alert_labels: Mapping[str, str], set_by_rule: frozenset[str]
) -> set[str]:
    """The labels that both have, with different values, and that the rule did not set."""
    return {
        name
        for name in labels.keys() & alert_labels.keys() - set_by_rule
        if labels[name] != alert_labels[name]
    }


def _gap(evidence: Evidence, alert_labels: Mapping[str, str], since: float) -> str:
    """What is missing for an empty answer to mean health, in words; empty if nothing is."""
    # Of the warnings, those about PromQL itself do not say that data is missing.
    partial = [text for text in evidence.warnings if not text.startswith("PromQL ")]
    if partial:
        return f"the answer may be incomplete: {partial[0]}"
    for data in evidence.selectors:
        newest = _newest(data, alert_labels, evidence.set_by_rule)
        # What is read from the past must be as fresh as it can be there.
        limit = since - max(0.0, data.selector.offset)
        if newest is None or newest <= limit:
            what = f" since {_time(limit)}" if limit > 0 else ""
            last = f"; the newest is of {_time(newest)}" if newest is not None else ""
            return f"no sample{what} for {_cut(data.selector.text)}{last}"
    return ""


def _newest(
    data: SelectorData, alert_labels: Mapping[str, str], set_by_rule: frozenset[str]
) -> float | None:
    """When the alert's own series of a selector has had its newest sample."""
    carried = data.carried.union(*(row.labels for row in data.rows))
    needed = carried & alert_labels.keys() - set_by_rule
    return max(
        (
            row.at
            for row in data.rows
            if needed <= row.labels.keys() and not _differing(row.labels, alert_labels, set_by_rule)
        ),
        default=None,
    )


def _doubt(evidence: Evidence, alert_labels: Mapping[str, str]) -> str:
    """Why a series that is returned may be this alert's after all, in words; empty if it cannot.

    It differs in some label. Either that label of the alert is seen on its own data too, or the
    rule is known and does not set it; else something may have overwritten it.
    """
    if evidence.rule is not None:
        return ""
    seen = {
        name
        for data in evidence.selectors
        for row in data.rows
        for name in row.labels
        if row.labels[name] == alert_labels.get(name)
    }
    for sample in evidence.samples:
        if not _differing(sample.labels, alert_labels, _ALWAYS_SET) & seen:
            return f"the rule is not found, and {_show(sample)} may be this alert's"
    return ""


def _show(sample: Sample) -> str:
    labels = ", ".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
    return f"{{{_cut(labels)}}} = {sample.value:g}"


def _cut(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "…"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
