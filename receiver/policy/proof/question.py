"""Everything that is asked about one moment, in one query.

One, since all of it must be true at once: a target that comes back between two queries would give
an empty answer from before its return, and a fresh sample from after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from receiver.policy.duration import format_duration
from receiver.policy.promql import Rule, Sample, Samples, quote
from receiver.policy.proof.flow import OUTERMOST, Place, places
from receiver.policy.proof.syntax import (
    Aggregation,
    Binary,
    Call,
    Node,
    Selector,
    Subquery,
    Tree,
    is_scalar,
    parse,
    show,
)

MARK: Final = "__promheal__"
"""The label that tells the parts of one answer apart."""
RESULT: Final = "R"
TIME: Final = "T"
MAX_QUERY: Final = 65_536
"""Characters of a query that is asked."""
MOST_LOST: Final = 50
"""Scraped targets that may have lost series; beyond, nothing is concluded."""
TOLERANCE: Final = 1.0
"""Seconds by which clocks and answers may differ: HTTP tells the time in whole ones."""
DEPTH: Final = 5
"""Recording rules within recording rules that are looked into."""

MOST_MAKERS: Final = 10
"""Rules that may make the series of one selector; of more, none is looked into."""
_ALERT: Final = {"alertname": "", "alertstate": ""}
"""Labels that Prometheus sets on the series that it makes of alerts."""

_HIDES_NAN: Final = frozenset({"bottomk", "max", "min", "quantile", "topk"})
_HIDES_NAN_OVER_TIME: Final = frozenset(
    {"mad_over_time", "max_over_time", "min_over_time", "quantile_over_time"}
)


class Moment(msgspec.Struct, frozen=True):
    """Which data counts as new, and when the alert was fed."""

    age: float | None
    """Seconds back to the end of the action, by the server's clock; None: any sample will do."""
    fed_at: float
    """When the alert was bound, seconds since the epoch, by the server's clock."""

    def age_of(self, place: Place) -> float:
        """Return how old a sample may be that is read at *place*.

        What is read from a time before the action must be as fresh as it can be there: no action
        changes it, and a healthy state is compared with it.
        """
        assert self.age is not None
        return self.age + place.offset if self.reads_history(place) else self.age

    def reads_history(self, place: Place) -> bool:
        """Whether all that is read at *place* is from before the action."""
        return self.age is not None and place.offset > self.age


class Restricted(msgspec.Struct, frozen=True):
    """An expression whose selectors take only the series that can have fed one result."""

    tree: Tree
    labels: Mapping[str, str]
    """The result's."""
    places: Mapping[int, Place]
    matchers: Mapping[int, tuple[str, ...]]
    """Besides the selectors' own, by their index."""
    recorded: Mapping[int, tuple[Restricted, ...]] = {}
    """The expressions of recording rules, by the selector that reads what they record."""
    interval: float = 0.0
    """Seconds between the evaluations of the recording rule that it is from."""
    outer: Place = OUTERMOST
    """Where it stands in the expression that reads what it records."""

    def show(self, node: Node) -> str:
        return show(node, self.matchers)

    def series(self, selector: Selector, *, at: str = "", window: str = "") -> str:
        """Return the selector's own series, at the moment that it reads or as seen from *at*."""
        place = self.places[selector.index]
        text = selector.plain(self.matchers.get(selector.index, ()))
        if at:
            at = f" @ {at}"
        return f"{text}{window}{at}{shown_offset(place.offset)}"


def restricted(
    tree: Tree,
    labels: Mapping[str, str],
    recordings: Mapping[str, tuple[Rule, ...]],
    *,
    outer: Place = OUTERMOST,
    excluded: Mapping[str, tuple[str, ...]] = {},
    interval: float = 0.0,
    depth: int = DEPTH,
) -> Restricted:
    """Restrict *tree* to what can have fed its result with *labels*.

    *recordings* are the server's recording rules by what they record. *excluded* are values of
    labels that a series must not have where the label reaches the result.
    """
    at = places(tree.root, outer)
    recorded = {}
    for selector in tree.selectors:
        inner = []
        for rule in _makers(selector, recordings) if depth else ():
            try:
                parsed = parse(rule.query)
            except ValueError:
                continue  # then it counts as a plain series
            place = at[selector.index]
            flow = place.flow.drop({**rule.labels, **_ALERT})
            inner.append(
                restricted(
                    parsed,
                    {**labels, **_tied(selector)},
                    recordings,
                    outer=msgspec.structs.replace(place, flow=flow, counter=False, under=()),
                    excluded=excluded,
                    interval=rule.interval,
                    depth=depth - 1,
                )
            )
        if inner:
            recorded[selector.index] = tuple(inner)
    matchers = {
        index: (
            *place.matchers(labels),
            *(
                f"{name}!={quote(value)}"
                for name, values in excluded.items()
                if name in place.flow or name in place.sources
                for value in values
            ),
        )
        for index, place in at.items()
    }
    return Restricted(tree, labels, at, matchers, recorded, interval, outer)


class Parts:
    """The parts of a query, in PromQL; what is asked twice is asked once."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def add(self, text: str) -> None:
        self._marks.setdefault(text, str(len(self._marks)))

    def query(self, expression: Tree | None = None, *, text: str = "") -> str:
        """Return one query for all parts, the time, and what *expression*, or *text*, returns.

        Raises ValueError when it would be too long.
        """
        if expression is not None:
            text = show(expression.root)
            text = f"vector({text})" if expression.is_scalar else text
        parts = [_marked("vector(time())", TIME)]
        if text:
            # A comment may stand at the end of what is not ours.
            parts.insert(0, _marked(f"{text}\n", RESULT))
        parts += [_marked(part, mark) for part, mark in self._marks.items()]
        query = "\nor ".join(parts)
        if len(query) > MAX_QUERY:
            raise ValueError(
                f"all that it rests on is too much for one query: {len(query)} characters"
            )
        return query

    def read(self, answer: Samples) -> Answer:
        texts = {mark: text for text, mark in self._marks.items()}
        rows: dict[str, list[Sample]] = {text: [] for text in self._marks}
        returned: list[Sample] = []
        at = None
        for sample in answer:
            labels = dict(sample.labels)
            mark = labels.pop(MARK, RESULT)
            plain = Sample(labels, sample.value, sample.at)
            if mark == RESULT:
                returned.append(plain)
            elif mark == TIME:
                at = sample.value
            else:
                rows[texts[mark]].append(plain)
        found = {text: tuple(samples) for text, samples in rows.items()}
        return Answer(tuple(returned), at, found, answer.warnings, answer.clock)


class Answer(msgspec.Struct, frozen=True):
    """What a query for parts was answered."""

    returned: tuple[Sample, ...]
    """Of the expression."""
    at: float | None
    """The moment that all of it is of, by the server's own word."""
    rows: Mapping[str, tuple[Sample, ...]]
    """By the part's text."""
    warnings: tuple[str, ...] = ()
    clock: float | None = None
    """What the server's clock showed when it was asked; None: not told."""

    def behind(self, now: float) -> float:
        """Return how many seconds before it was asked, at *now*, the moment lies that it is of.

        VictoriaMetrics answers for 30 seconds ago, front ends for the end of a step. Where the
        server does not tell its clock, ours stands for it. A second of doubt counts against the
        heal, but for a server that answers for the moment at which it is asked.
        """
        assert self.at is not None
        found = (now if self.clock is None else self.clock) - self.at
        return 0.0 if found <= TOLERANCE else found + TOLERANCE

    def number(self, part: str) -> float | None:
        """Return the value of a part that is one number, None when there is none."""
        rows = self.rows.get(part, ())
        return rows[0].value if rows else None


# --- the parts ------------------------------------------------------------------------------------


def fresh(asked: Restricted, selector: Selector, moment: Moment) -> str:
    """How many of its series have a sample from after the action."""
    return f"count({_fresh(asked, selector, moment)})"


def here(asked: Restricted, selector: Selector) -> str:
    """How many of its series have a sample, however old."""
    return f"count({asked.series(selector)})"


def fed(asked: Restricted, selector: Selector, moment: Moment) -> str:
    """How many of its series had a sample when the alert was bound."""
    at = f"{moment.fed_at:.3f}"
    text = f"count({asked.series(selector, at=at)})"
    place = asked.places[selector.index]
    window = selector.window + sum(each.window for each in place.under)
    if place.branch and window:
        span = f"[{format_duration(window)}]"
        text += f" or count(count_over_time({asked.series(selector, at=at, window=span)}))"
    return text


def ended(asked: Restricted, selector: Selector, moment: Moment) -> str:
    """Its series that had a sample when the alert was bound, and have had none since the action."""
    at = f"{moment.fed_at:.3f}"
    return f"({asked.series(selector, at=at)} unless {_fresh(asked, selector, moment)})"


def lost(asked: Restricted, selector: Selector, moment: Moment) -> str:
    """How many of these there are, by what they were scraped from."""
    return f"topk({MOST_LOST + 1}, count by (job, instance) {ended(asked, selector, moment)})"


def difference(asked: Restricted, node: Binary, under: tuple[Subquery, ...]) -> str:
    """The difference of a comparison's sides: a number, NaN, or nothing where a side is missing."""
    text = asked.show(Binary("-", node.left, node.right, matching=node.matching))
    return _sum(text, under, scalar=is_scalar(node))


def numbers(asked: Restricted, node: Node, under: tuple[Subquery, ...]) -> str:
    """NaN where a function would pass over one; empty where *node* does not."""
    match node:
        case Aggregation() if node.op in _HIDES_NAN:
            return _sum(asked.show(node.expr), under)
        case Call() if node.function in _HIDES_NAN_OVER_TIME:
            window = node.arguments[-1]
            if isinstance(window, Selector):
                return _sum(f"sum_over_time({asked.show(window)})", under)
        case Subquery():
            return _sum(f"sum_over_time({asked.show(node)})", under)
        case _:
            pass
    return ""


def returned(asked: Restricted, node: Node) -> str:
    """How many series *node* returns."""
    return f"count({asked.show(node)})"


def total(asked: Restricted, node: Node, under: tuple[Subquery, ...]) -> str:
    """The sum over what *node* returns."""
    return _sum(asked.show(node), under, scalar=is_scalar(node))


def _fresh(asked: Restricted, selector: Selector, moment: Moment) -> str:
    series = asked.series(selector)
    if moment.age is None:
        return series
    # What is recorded must have been evaluated once more.
    inner = asked.recorded.get(selector.index, ())
    behind = max((each.interval for each in inner), default=0.0)
    age = moment.age_of(asked.places[selector.index])
    return f"(time() - timestamp({series}) < {age - behind:.3f})"


def _sum(text: str, under: tuple[Subquery, ...], *, scalar: bool = False) -> str:
    if scalar:
        text = f"vector({text})"
    for subquery in reversed(under):
        text = f"sum_over_time({subquery.around(text)})"
    return f"sum({text})"


def shown_offset(seconds: float) -> str:
    if not seconds:
        return ""
    return f" offset {'-' if seconds < 0 else ''}{format_duration(abs(seconds))}"


def _marked(vector: str, mark: str) -> str:
    return f'label_replace({vector}, "{MARK}", "{mark}", "", "")'


def _makers(selector: Selector, recordings: Mapping[str, tuple[Rule, ...]]) -> tuple[Rule, ...]:
    """Return the rules that make the selector's series, none where these are too many."""
    found = tuple(
        rule
        for rule in recordings.get(selector.metric, ())
        if all(
            selector.equal.get(name, value) == value
            for name, value in rule.labels.items()
            if "{{" not in value
        )
        and (rule.records or selector.equal.get("alertname", rule.name) == rule.name)
    )
    return found if len(found) <= MOST_MAKERS else ()


def _tied(selector: Selector) -> dict[str, str]:
    return {name: value for name, value in selector.equal.items() if name != "__name__"}
