"""What is asked about an expression? The parts of a query, in PromQL."""

from __future__ import annotations

from typing import Final

import msgspec

from receiver.policy.duration import format_duration
from receiver.policy.proof.placement import Placement
from receiver.policy.proof.restricted import Restricted
from receiver.policy.proof.tree import (
    Aggregation,
    Binary,
    Call,
    Expr,
    Selector,
    Subquery,
    is_scalar,
)

MOST_LOST: Final = 50
"""Scraped targets that may have lost series; beyond, nothing is concluded."""
_HIDES_NAN: Final = frozenset({"bottomk", "max", "min", "quantile", "topk"})
_HIDES_NAN_OVER_TIME: Final = frozenset(
    {"mad_over_time", "max_over_time", "min_over_time", "quantile_over_time"}
)


class Timing(msgspec.Struct, frozen=True):
    """Which data counts as new, and when the alert was fed."""

    age: float | None
    """Seconds back to the end of the action, by the server's clock; None: any sample will do."""
    fed_at: float
    """When the alert was bound, seconds since the epoch, by the server's clock."""

    def age_of(self, place: Placement) -> float:
        """Return how old a sample may be that is read at *place*.

        What is read from a time before the action must be as fresh as it can be there: no action
        changes it, and a healthy state is compared with it.
        """
        assert self.age is not None
        return self.age + place.offset if self.reads_history(place) else self.age

    def reads_history(self, place: Placement) -> bool:
        """Whether all that is read at *place* is from before the action."""
        return self.age is not None and place.offset > self.age


# --- the parts ------------------------------------------------------------------------------------


def fresh(asked: Restricted, selector: Selector, timing: Timing) -> str:
    """How many of its series have a sample from after the action."""
    return f"count({_fresh(asked, selector, timing)})"


def here(asked: Restricted, selector: Selector) -> str:
    """How many of its series have a sample, however old."""
    return f"count({asked.series(selector)})"


def fed(asked: Restricted, selector: Selector, timing: Timing) -> str:
    """How many of its series had a sample when the alert was bound."""
    at = f"{timing.fed_at:.3f}"
    text = f"count({asked.series(selector, at=at)})"
    place = asked.places[selector.index]
    window = selector.window + sum(each.window for each in place.under)
    if place.branch and window:
        span = f"[{format_duration(window)}]"
        text += f" or count(count_over_time({asked.series(selector, at=at, window=span)}))"
    return text


def ended(asked: Restricted, selector: Selector, timing: Timing) -> str:
    """Its series that had a sample when the alert was bound, and have had none since the action."""
    at = f"{timing.fed_at:.3f}"
    return f"({asked.series(selector, at=at)} unless {_fresh(asked, selector, timing)})"


def lost(asked: Restricted, selector: Selector, timing: Timing) -> str:
    """How many of these there are, by what they were scraped from."""
    return f"topk({MOST_LOST + 1}, count by (job, instance) {ended(asked, selector, timing)})"


def difference(asked: Restricted, node: Binary, under: tuple[Subquery, ...]) -> str:
    """The difference of a comparison's sides: a number, NaN, or nothing where a side is missing."""
    text = asked.show(Binary("-", node.left, node.right, matching=node.matching))
    return _sum(text, under, scalar=is_scalar(node))


def numbers(asked: Restricted, node: Expr, under: tuple[Subquery, ...]) -> str:
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


def returned(asked: Restricted, node: Expr) -> str:
    """How many series *node* returns."""
    return f"count({asked.show(node)})"


def total(asked: Restricted, node: Expr, under: tuple[Subquery, ...]) -> str:
    """The sum over what *node* returns."""
    return _sum(asked.show(node), under, scalar=is_scalar(node))


def _fresh(asked: Restricted, selector: Selector, timing: Timing) -> str:
    series = asked.series(selector)
    if timing.age is None:
        return series
    # What is recorded must have been evaluated once more.
    inner = asked.recorded.get(selector.index, ())
    behind = max((each.interval for each in inner), default=0.0)
    age = timing.age_of(asked.places[selector.index])
    return f"(time() - timestamp({series}) < {age - behind:.3f})"


def _sum(text: str, under: tuple[Subquery, ...], *, scalar: bool = False) -> str:
    if scalar:
        text = f"vector({text})"
    for subquery in reversed(under):
        text = f"sum_over_time({subquery.around(text)})"
    return f"sum({text})"
