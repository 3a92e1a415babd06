"""Which series can have fed a result? An expression whose selectors take only these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from receiver.policy.duration import format_duration
from receiver.policy.promql import Rule, quote
from receiver.policy.proof.flow import places
from receiver.policy.proof.placement import OUTERMOST, Placement
from receiver.policy.proof.syntax import parse
from receiver.policy.proof.tree import Expr, Selector, Tree, show

DEPTH: Final = 5
"""Recording rules within recording rules that are looked into."""
MOST_MAKERS: Final = 10
"""Rules that may make the series of one selector; of more, none is looked into."""
_ALERT: Final = {"alertname": "", "alertstate": ""}
"""Labels that Prometheus sets on the series that it makes of alerts."""


class Restricted(msgspec.Struct, frozen=True):
    """An expression whose selectors take only the series that can have fed one result."""

    tree: Tree
    labels: Mapping[str, str]
    """The result's."""
    places: Mapping[int, Placement]
    matchers: Mapping[int, tuple[str, ...]]
    """Besides the selectors' own, by their index."""
    recorded: Mapping[int, tuple[Restricted, ...]] = {}
    """The expressions of recording rules, by the selector that reads what they record."""
    interval: float = 0.0
    """Seconds between the evaluations of the recording rule that it is from."""
    outer: Placement = OUTERMOST
    """Where it stands in the expression that reads what it records."""

    def show(self, node: Expr) -> str:
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
    outer: Placement = OUTERMOST,
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


def shown_offset(seconds: float) -> str:
    if not seconds:
        return ""
    return f" offset {'-' if seconds < 0 else ''}{format_duration(abs(seconds))}"


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
