"""What the expression around a selector means for it; which of its labels reach the result?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from receiver.policy.promql import label_name, literally, quote
from receiver.policy.proof.tree import Expr, Subquery


class Flow(msgspec.Struct, frozen=True):
    """A set of labels: of those in `only`, or of all, those that are not in `without`."""

    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()

    def keep(self, names: Iterable[str]) -> Flow:
        kept = frozenset(names)
        return Flow(kept if self.only is None else self.only & kept, self.without)

    def drop(self, names: Iterable[str]) -> Flow:
        return Flow(self.only, self.without | frozenset(names))

    def meet(self, other: Flow) -> Flow:
        met = self if other.only is None else self.keep(other.only)
        return met.drop(other.without)

    def __contains__(self, name: str) -> bool:
        return (self.only is None or name in self.only) and name not in self.without


ALL: Final = Flow()


class Rewritten(msgspec.Struct, frozen=True):
    """`label_replace(…, made, "$1", source, regex)` around a selector: `made` tells of `source`."""

    made: str
    source: str
    before: str
    """The regular expression up to its only group, …"""
    group: str
    after: str
    """… and behind it."""

    def matcher(self, value: str) -> str:
        """Return a matcher on `source` for the series that the expression gave *value*."""
        regex = f"(?:{self.before})(?:{literally(value)})(?:{self.after})|{literally(value)}"
        return f"{label_name(self.source)}=~{quote(regex)}"


class Placement(msgspec.Struct, frozen=True):
    """What the expression around a selector means for it."""

    flow: Flow = ALL
    rewritten: tuple[Rewritten, ...] = ()
    made: tuple[tuple[str, frozenset[str]], ...] = ()
    """Labels of the result that the expression makes, and those of the series that they are of."""
    offset: float = 0.0
    """Seconds back to the moment whose data is read, those of subqueries included."""
    pinned: bool = False
    """Reads history by `@`."""
    under: tuple[Subquery, ...] = ()
    """The subqueries around it, the outermost first."""
    sign: int = 1
    """1: with its value rises whether the alert fires; -1: it falls; 0: neither can be said."""
    counter: bool = False
    """In `rate`, `increase` or `irate`."""
    summed: bool = False
    """Added up with others of its selector."""
    divisors: tuple[tuple[Expr, tuple[Subquery, ...]], ...] = ()
    """What it is divided by."""
    grouped: bool = False
    """Below an aggregation: several series of it may have fed one result."""
    optional: bool = False
    """A healthy state may lack its data: right of `unless`, inside `absent`, or pinned by `@`."""
    branch: bool = False
    """Below `or`: another branch may stand in for it."""

    def through(self, flow: Flow) -> Placement:
        """As seen below something that lets only the labels of *flow* pass."""
        return msgspec.structs.replace(
            self,
            flow=self.flow.meet(flow),
            rewritten=tuple(each for each in self.rewritten if each.source in flow),
            made=tuple(
                (name, kept)
                for name, sources in self.made
                if (kept := frozenset(each for each in sources if each in flow))
            ),
        )

    def signed(self, sign: int) -> Placement:
        return msgspec.structs.replace(self, sign=self.sign * sign)

    @property
    def sources(self) -> frozenset[str]:
        """Labels of the series that the result tells by another name, or in part."""
        return frozenset().union(*(sources for _, sources in self.made))

    def making(self, name: str, sources: Iterable[str]) -> Placement:
        """As seen below what makes the label *name* of *sources*."""
        inner = self.through(ALL.drop((name,)))
        if name not in self.flow:
            return inner
        return msgspec.structs.replace(inner, made=(*inner.made, (name, frozenset(sources))))

    def matchers(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return matchers for the series that can have fed a result with *labels*.

        A series may lack a label that the result has from another operand.
        """
        tied = [
            f"{label_name(name)}=~{quote(literally(value) + '|')}"
            for name, value in sorted(labels.items())
            if name in self.flow
        ]
        made = [each.matcher(labels[each.made]) for each in self.rewritten if each.made in labels]
        return (*tied, *made)


OUTERMOST: Final = Placement()
