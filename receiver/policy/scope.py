"""What does a person's pause or reset cover? Everything, one strategy, or targets.

Targets are written as `web`, the value of the only label by which a strategy names its targets; as
runs show them, `service="web"`; or as matchers in Alertmanager's syntax over the labels that make
up a target. A label that a target does not have is empty.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from receiver.policy.line import is_line
from receiver.policy.matcher import Matcher, MatcherError, MatchOp
from receiver.policy.matcher_syntax import parse_matchers
from receiver.policy.target import labels_of, name_of

MAX_SCOPE: Final = 1_100
"""Characters."""
ALL: Final = "all"
STRATEGY: Final = "strategy:"
TARGET: Final = "target:"


class ScopeError(ValueError):
    """A text is no scope. The message tells the remedy."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """A scope; `text` is the one spelling of all that mean the same.

    Only those that earlier versions stored keep their own spelling.
    """

    text: str
    """`all`, `strategy:NAME` or `target:MATCHERS`."""
    strategy: str = ""
    value: str = ""
    """The value of a target's only label, whichever that is."""
    matchers: tuple[Matcher, ...] = ()

    def covers(self, strategy: str, target: str) -> bool:
        """Whether it covers this strategy on this target."""
        if self.strategy:
            return self.strategy == strategy
        if self.text in {ALL, TARGET + target}:
            return True
        labels = labels_of(target)
        return labels is not None and self.meets(labels)

    def meets(self, labels: dict[str, str]) -> bool:
        """Whether it covers targets that *labels* make up."""
        if self.value:
            return [*labels.values()] == [self.value]
        return bool(self.matchers) and all(matcher.matches(labels) for matcher in self.matchers)

    def means(self, other: Scope) -> bool:
        """Whether *other* covers the same, in whatever spelling."""
        if self.value and len(other.matchers) == 1:
            return other.matchers[0].op is MatchOp.EQUAL and other.matchers[0].value == self.value
        if self.matchers:
            return frozenset(self.matchers) == frozenset(other.matchers)
        return self.text == other.text


EVERYWHERE: Final = Scope(text=ALL)


def of_target(labels: dict[str, str]) -> Scope:
    """Return the scope of what has these labels."""
    return Scope(
        text=TARGET + name_of(labels),
        matchers=tuple(Matcher(name, MatchOp.EQUAL, value) for name, value in labels.items()),
    )


def parse_scope(text: str) -> Scope:
    """Return the scope that a person wrote. Raises ScopeError."""
    if len(text) <= MAX_SCOPE:
        if text == ALL:
            return EVERYWHERE
        if text.startswith(STRATEGY) and text != STRATEGY and is_line(text):
            return Scope(text=text, strategy=text.removeprefix(STRATEGY))
        if text.startswith(TARGET):
            return parse_target(text.removeprefix(TARGET))
    raise ScopeError(
        'scope: write all, strategy:NAME or target:NAME, for example target:service="web", in up to'
        f" {MAX_SCOPE} characters"
    )


def parse_target(text: str) -> Scope:
    """Return the targets that a person wrote. Raises ScopeError."""
    written = text.strip()
    labels = labels_of(written)
    if labels is not None:
        return of_target(labels)
    if "=" not in written and "!~" not in written:
        if not written or not is_line(written):
            raise ScopeError(f"target: {_WRITE}")
        return Scope(text=TARGET + written, value=written)
    try:
        matchers = parse_matchers(written)
    except MatcherError as error:
        raise ScopeError(f"target: {error}; {_WRITE}") from None
    labels = {one.name: one.value for one in matchers if one.op is MatchOp.EQUAL}
    if len(labels) == len(matchers) and labels_of(name_of(labels)) == labels:
        return of_target(labels)
    joined = ",".join(map(str, matchers))
    if not is_line(joined):
        raise ScopeError(f"target: it holds what cannot be printed; {_WRITE}")
    return Scope(text=TARGET + joined, matchers=matchers)


_WRITE: Final = 'write web, or service="web", or matchers as service=~"web.*"'


@lru_cache(maxsize=1024)
def stored_scope(text: str) -> Scope:
    """Return a stored scope; an unreadable target matches itself only."""
    try:
        return parse_scope(text)
    except ScopeError:
        return Scope(text=text)
