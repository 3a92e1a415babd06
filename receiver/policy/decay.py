"""How long can data from before an action keep an alert firing?

Until then, that it fires proves nothing. What counts is not the earliest moment at which an alert
can clear, since a rate may fall below its threshold at any time, but the latest at which data from
before the action still matters. The expression tells: `rate(x[5m])` reads five minutes, a subquery
reads what its inner expression reads at each of its steps, and a recorded series is as old as its
rule's expression plus one evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from math import inf
from typing import Final

import msgspec
import promql_parser as parser

from receiver.policy.matcher import Matcher, MatcherError, MatchOp
from receiver.policy.promql import Rule, parse

SCRAPE: Final = 60.0
"""Seconds between two samples where nobody knows better: Prometheus' own default."""
DEPTH: Final = 5
"""Recording rules that may rest on one another."""
ALERTS: Final = ("ALERTS", "ALERTS_FOR_STATE")
"""The series that Prometheus makes of its alerting rules."""

_OPS: Final = {
    "MatchOp.Equal": MatchOp.EQUAL,
    "MatchOp.NotEqual": MatchOp.NOT_EQUAL,
    "MatchOp.Re": MatchOp.MATCH,
    "MatchOp.NotRe": MatchOp.NOT_MATCH,
}
"""By their names: the parser's own have no hash."""


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, as far as it says how old the data in its series may be."""

    expression: str
    delay: float
    """Seconds for which its series stay as they are: the interval of its group, and of an alert's
    series its `keep_firing_for`."""
    labels: Mapping[str, str] = {}
    """Labels that it sets on all of its series."""


Recordings = Mapping[str, tuple[Recording, ...]]
"""What makes the series of a name."""


class Decay(msgspec.Struct, frozen=True):
    """How far back an expression looks."""

    seconds: float | None
    """None: for ever, or unknown; `problem` says why."""
    problem: str = ""
    scrape: float = SCRAPE
    """Seconds until each of its series has a sample from after a given moment, if it is scraped."""

    @property
    def reach(self) -> float:
        """Seconds after an action from which on nothing from before it counts; may be infinite."""
        return inf if self.seconds is None else self.seconds + self.scrape


FORGETS: Final = Decay(0.0, scrape=0.0)
"""It reads nothing from before now."""


def longest(decays: Iterable[Decay]) -> Decay:
    """Return how far back the furthest of several expressions looks."""
    every = list(decays)
    furthest = max(every, key=lambda one: inf if one.seconds is None else one.seconds)
    return Decay(furthest.seconds, furthest.problem, max(one.scrape for one in every))


def recordings(rules: Iterable[Rule]) -> Recordings:
    """Return what makes series: recording rules, and alerting rules, which make `ALERTS`."""
    found: dict[str, list[Recording]] = {}
    for rule in rules:
        names = (rule.name,) if rule.records else ALERTS
        labels = {name: value for name, value in rule.labels.items() if "{{" not in value}
        if not rule.records:
            labels["alertname"] = rule.name
        made = Recording(
            expression=rule.query, delay=rule.interval + rule.keep_firing_for, labels=labels
        )
        for name in names:
            found.setdefault(name, []).append(made)
    return {name: tuple(each) for name, each in found.items()}


def decay(expression: str, recordings: Recordings | None) -> Decay:
    """Return how many seconds back the value of *expression* depends on.

    It is an upper bound, that of https://prometheus.io/docs/prometheus/latest/querying/basics/:
    ranges, subqueries and offsets within one another add up, parts beside one another do not; `@`
    leaves what is around it, to the time of asking (`start()`, `end()`) or for ever to another one.
    *recordings* are the rules whose series it may read, None when nobody could be asked for them.
    """
    try:
        return Decay(_Reader(recordings).expression(expression))
    except _EndlessError as error:
        return Decay(None, str(error))


class _EndlessError(Exception):
    """No time can be named, after which nothing of the past counts."""


class _Reader:
    def __init__(self, recordings: Recordings | None) -> None:
        self._recordings = recordings
        self._known: dict[str, float] = {}  # what recording rules remember, by their expressions
        self._within: list[str] = []  # the recording rules that are being read

    def expression(self, text: str) -> float:
        try:
            tree, _, literals = parse(text)
        except ValueError as error:
            raise _EndlessError(f"{self._subject} cannot be read: {error}") from None
        return self._walk(tree, 0.0, literals)

    @property
    def _subject(self) -> str:
        return f"the recording rule {self._within[-1]}" if self._within else "the expression"

    def _walk(self, node: parser.Expr, since: float, literals: Mapping[str, str]) -> float:
        """Return how far back *node* looks, asked for a moment *since* seconds ago."""
        match node:
            case parser.VectorSelector():
                return self._series(node, self._back(node, since), literals)
            case parser.MatrixSelector():
                selector = node.vector_selector
                assert node.range is not None
                since = self._back(selector, since, node.range.total_seconds())
                return self._series(selector, since, literals)
            case parser.SubqueryExpr():
                assert node.range is not None
                since = self._back(node, since, node.range.total_seconds())
                return self._walk(node.expr, since, literals)
            case _:
                parts = (self._walk(part, since, literals) for part in _parts(node))
                return max(parts, default=0.0)

    def _back(
        self,
        node: parser.VectorSelector | parser.SubqueryExpr,
        since: float,
        window: float = 0.0,
    ) -> float:
        """The earliest moment that *node* reads, in seconds before now."""
        offset = node.offset.total_seconds() if node.offset else 0.0
        # What is to come counts as now: until it has come, the newest sample stands for it.
        back = max(0.0, window + offset)
        if node.at is None:
            return since + back
        if node.at.type == parser.AtModifierType.At:
            raise _EndlessError("`@` pins what it reads to a fixed time, which no action changes")
        return back

    def _series(
        self, node: parser.VectorSelector, since: float, literals: Mapping[str, str]
    ) -> float:
        matchers = tuple(_matchers(node, literals))
        name = next((m.value for m in matchers if m.name == "__name__"), "")
        if self._recordings is None:
            if ":" in name or name in ALERTS:
                raise _EndlessError(
                    f"{name} is made by a rule, and Prometheus could not be asked for its rules"
                )
            return since
        makers = (
            self._recording(made, rule)
            for made, rules in self._recordings.items()
            # A selector that names no metric does not mean ALERTS, which its own alert is among.
            if made == name or made not in ALERTS
            if all(m.matches({"__name__": made}) for m in matchers if m.name == "__name__")
            for rule in rules
            if _may_make(rule, matchers)
        )
        return since + max(makers, default=0.0)

    def _recording(self, name: str, rule: Recording) -> float:
        if rule.expression in self._known:
            return rule.delay + self._known[rule.expression]
        if len(self._within) == DEPTH:
            chain = ", ".join(dict.fromkeys(self._within))
            raise _EndlessError(
                f"its recording rules rest on one another more than {DEPTH} deep: {chain}"
            )
        self._within.append(name)
        found = self._known[rule.expression] = self.expression(rule.expression)
        self._within.pop()
        return rule.delay + found


def _parts(node: parser.Expr) -> Iterable[parser.Expr]:
    match node:
        case parser.ParenExpr() | parser.UnaryExpr():
            return (node.expr,)
        case parser.AggregateExpr():
            parameter = (node.param,) if isinstance(node.param, parser.Expr) else ()
            return (node.expr, *parameter)
        case parser.BinaryExpr():
            return (node.lhs, node.rhs)
        case parser.Call():
            return tuple(node.args)
        case _:  # numbers and strings rest on nothing
            return ()


def _matchers(node: parser.VectorSelector, literals: Mapping[str, str]) -> Iterator[Matcher]:
    if node.name:
        yield Matcher("__name__", MatchOp.EQUAL, _text(node.name, literals))
    for one in node.matchers.matchers:
        name, value = _text(one.name, literals), _text(one.value, literals)
        # Prometheus may know a regular expression that we do not: then anything may be meant.
        with suppress(MatcherError):
            yield Matcher(name, _OPS[str(one.op)], value)


def _text(name: str, literals: Mapping[str, str]) -> str:
    """A name or a value without its quotes; an escape in it stays as it is written."""
    return literals[name][1:-1] if name in literals else name


def _may_make(rule: Recording, matchers: Iterable[Matcher]) -> bool:
    return all(m.matches(rule.labels) for m in matchers if m.name in rule.labels)
