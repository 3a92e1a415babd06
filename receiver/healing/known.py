"""Which strategies and targets exist, and which is nearest to a misspelt name?

A pause of something that does not exist stops nothing, and looks as if it did.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Final

import msgspec

from receiver.errors import RefusedError
from receiver.policy.matcher import Matcher, MatchOp
from receiver.policy.scope import TARGET, Scope, of_target
from receiver.policy.strategy import Strategies, Strategy
from receiver.policy.target import labels_of, name_of
from receiver.template import names_in
from receiver.yaml.diagnostics import quoted, suggestion

UNKNOWN: Final = "unknown_scope"
"""The error code for an unknown scope."""

_OFFERED: Final = 5
"""Targets that an error offers."""
_COMPARED: Final = 2_000
"""Targets that a name is compared with."""
_LONGEST: Final = 200
"""Characters of an offered target: a person has to type it."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    strategies: Strategies
    services: tuple[str, ...]
    """The names in services.yml."""
    targets: tuple[str, ...]
    """Targets that fire, or were ever decided on."""

    def recognise(self, scope: Scope, *, even_if_unknown: bool) -> Scope:
        """Return *scope* as runs spell it.

        Raises RefusedError for a scope that covers nothing that exists, with the nearest that does,
        and for a value that several labels may have.
        """
        if scope.strategy:
            if not even_if_unknown and self.strategies.get(scope.strategy) is None:
                raise _unknown(
                    f"no strategy {quoted(scope.strategy)}"
                    f"{suggestion(scope.strategy, self.strategies.names)}"
                )
            return scope
        if scope.value:
            scope = self._labelled(scope, even_if_unknown=even_if_unknown)
        if scope.matchers and not even_if_unknown:
            self._check(scope)
        return self._ordered(scope)

    def strategies_of(self, scope: Scope) -> tuple[str, ...]:
        """Return the names of the strategies that may have a target in *scope*."""
        return tuple(
            strategy.name
            for strategy in self.strategies
            if scope.strategy in {"", strategy.name}
            and all(_may_have(strategy, matcher) for matcher in scope.matchers)
        )

    @property
    def _labels(self) -> tuple[str, ...]:
        """The labels by which targets are named."""
        return tuple(dict.fromkeys(label for one in self.strategies for label in one.named_by))

    def _labelled(self, scope: Scope, *, even_if_unknown: bool) -> Scope:
        """Return *scope* with the label whose value it gives."""
        lone = [one.named_by[0] for one in self.strategies if len(one.named_by) == 1]
        possible = [of_target({label: scope.value}) for label in dict.fromkeys(lone)]
        found = [one for one in possible if self._knows(one)]
        if not found and not even_if_unknown:
            raise _unknown(f"no target {quoted(scope.value)} is known{self._near(scope)}")
        if len(found or possible) == 1:
            return (found or possible)[0]
        choices = (
            found
            or possible
            or [of_target({label: scope.value}) for label in self._labels or ("LABEL",)]
        )
        raise RefusedError(
            f"target: {quoted(scope.value)} does not say of which label it is the value; write"
            f" {_either([one.text.removeprefix(TARGET) for one in choices[:_OFFERED]])}",
            status=400,
        )

    def _ordered(self, scope: Scope) -> Scope:
        """Return *scope* with its labels in the order that a strategy gives them."""
        labels = labels_of(scope.text.removeprefix(TARGET))
        for strategy in self.strategies:
            if labels is not None and labels.keys() == set(strategy.named_by):
                return of_target({label: labels[label] for label in strategy.named_by})
        return scope

    def _check(self, scope: Scope) -> None:
        for matcher in scope.matchers:
            if matcher.name not in self._labels:
                raise _unknown(
                    f"no strategy names its targets by {quoted(matcher.name)}"
                    f"{suggestion(matcher.name, self._labels)}"
                )
        target = scope.text.removeprefix(TARGET)
        if not self.strategies_of(scope):
            raise _unknown(f"no strategy has targets that are {target}{self._near(scope)}")
        if not self._knows(scope):
            raise _unknown(f"no alert, run or service is known that is {target}{self._near(scope)}")

    def _knows(self, scope: Scope) -> bool:
        return bool(self.strategies_of(scope)) and any(map(scope.meets, self._all()))

    def _all(self) -> Iterator[dict[str, str]]:
        """Yield the labels of past targets, and of those that the configuration leads to expect."""
        for target in self.targets:
            labels = labels_of(target)
            if labels is not None:
                yield labels
        for strategy in self.strategies:
            yield from _expected(strategy, self.services)

    def _near(self, scope: Scope) -> str:
        """Return `; did you mean service="web"?`, or what is known when nothing is near."""
        names = {matcher.name for matcher in scope.matchers}
        meant = scope.value or ",".join(matcher.value for matcher in scope.matchers)
        offers: dict[str, str] = {}
        for labels in self._all():
            alike = {label: value for label, value in labels.items() if label in names}
            parts = [alike] if names else [{label: value} for label, value in labels.items()]
            for part in parts:
                target = name_of(part)
                if part and len(target) <= _LONGEST:
                    offers.setdefault(",".join(part.values()), target)
            if len(offers) >= _COMPARED:
                break
        near = get_close_matches(meant[:_LONGEST], offers, 3)
        if near:
            return f"; did you mean {_either([offers[one] for one in near])}?"
        known = ", ".join(islice(offers.values(), _OFFERED))
        more = f" and {len(offers) - _OFFERED} more" if len(offers) > _OFFERED else ""
        return f"; known: {known}{more}" if known else ""


def _may_have(strategy: Strategy, matcher: Matcher) -> bool:
    """Whether *strategy* may have a target that meets *matcher*."""
    if matcher.name not in strategy.named_by:
        return matcher.matches({})
    if matcher.literals is None or matcher.op in {MatchOp.NOT_EQUAL, MatchOp.NOT_MATCH}:
        return True
    return any(_admits(strategy, matcher.name, value) for value in matcher.literals)


def _admits(strategy: Strategy, label: str, value: str) -> bool:
    """Whether an alert of *strategy* may have this value in a label of its target."""
    return bool(value) and all(
        one.matches({label: value}) for one in strategy.match if one.name == label
    )


def _expected(strategy: Strategy, services: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield the targets to expect of *strategy* before there is any, each by one of its labels.

    A label that selects the service of a step has the names of services; a label that the strategy
    matches has the values that its matchers spell out.
    """
    for label in strategy.named_by:
        values = {
            value
            for one in strategy.match
            if one.name == label and one.op in {MatchOp.EQUAL, MatchOp.MATCH}
            for value in one.literals or ()
        }
        if any(
            f"labels.{label}" in names_in(getattr(step.params, "service", ""))
            for step in strategy.actions
        ):
            values.update(services)
        yield from ({label: one} for one in sorted(values) if _admits(strategy, label, one))


def _unknown(message: str) -> RefusedError:
    return RefusedError(message, status=404, code=UNKNOWN)


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
