r"""Does an alert wear these labels? One condition on one label, as Alertmanager's matchers have it.

Regular expressions are RE2's, Go's own syntax, so they run in linear time and agree with
Alertmanager: anchored at both ends, and `.` is no line feed. Three spellings differ: `\C` is known
to RE2 only, `(?<name>…)` to Go from 1.22 on, and `\p{Letter}`, the long name of `\pL`, to Go from
1.25 on but not to RE2.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, final

import re2

SPACE: Final = (  # what Go's unicode.IsSpace accepts; str.isspace() accepts more
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
BARE: Final = rf"""[^{SPACE}{{}}!=~,\\"'`]+"""
_BARE_NAME: Final = re2.compile(BARE)
_PLAIN: Final = re2.compile(r"(?:[^\\.+*?()\[\]{}^$]|\\\.)*")
_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False  # RE2 would write each of them to stderr
_OPTIONS.max_mem = 8 << 20  # bytes for program and automaton: a few thousand host names


class MatcherError(ValueError):
    """A text is no matcher. The message tells the remedy."""

    def __init__(self, message: str, *, position: int) -> None:
        super().__init__(message)
        self.position = position
        """The column, counted from 0, where it goes wrong; the text's length at its end."""


class MatchOp(enum.StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    MATCH = "=~"
    NOT_MATCH = "!~"


_REGEX_OPS: Final = {MatchOp.MATCH, MatchOp.NOT_MATCH}


@final
class Matcher:
    """One condition on one label.

    Frozen, and neither a dataclass nor a msgspec.Struct, whose JSON schemas would be objects: in a
    configuration file it is a string.

    Raises MatcherError, at position 0, when *value* is no regular expression but has to be one.
    """

    __slots__ = ("_literals", "_regex", "_wanted", "name", "op", "value")

    name: Final[str]
    op: Final[MatchOp]
    value: Final[str]

    def __init__(self, name: str, op: MatchOp, value: str) -> None:
        self.name = name
        self.op = op
        self.value = value
        self._wanted: Final = op in {MatchOp.EQUAL, MatchOp.MATCH}
        self._literals: Final = _alternatives(value) if op in _REGEX_OPS else frozenset({value})
        self._regex: Any = _compile(value) if self._literals is None else None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether *labels* meet the condition; a label that is not there has the value ""."""
        value = labels.get(self.name, "")
        if self._literals is not None:
            return (value in self._literals) is self._wanted
        # Bytes: for str, the binding counts the characters of the match, three times the price.
        return (self._regex.search(value.encode()) is not None) is self._wanted

    @property
    def literals(self) -> frozenset[str] | None:
        """All values that its value stands for; None for a regular expression that is not plain."""
        return self._literals

    def __str__(self) -> str:
        """Return the text that both syntaxes read alike, or the UTF-8 one if the name needs it."""
        name = self.name if _BARE_NAME.fullmatch(self.name) else _quote(self.name)
        return f"{name}{self.op}{_quote(self.value)}"

    def __repr__(self) -> str:
        return f"<Matcher {self}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Matcher):
            return NotImplemented
        return (self.name, self.op, self.value) == (other.name, other.op, other.value)

    def __hash__(self) -> int:
        return hash((self.name, self.op, self.value))

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise AttributeError(f"a matcher is frozen; {name} cannot change")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a matcher is frozen; {name} cannot go")


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'"{escaped}"'


def _alternatives(pattern: str) -> frozenset[str] | None:
    r"""Return all that *pattern* matches when it is plain, like `a|b\.c`; None for any other."""
    if _PLAIN.fullmatch(pattern) is None:
        return None
    return frozenset(pattern.replace("\\.", ".").split("|"))


def _compile(pattern: str) -> Any:
    try:
        # Not fullmatch(): Alertmanager takes `a)|(?:b`, and it finds any end in b.
        return re2.compile(f"^(?:{pattern})$", _OPTIONS)
    except re2.error as error:
        refused = error
    try:
        re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        refused = error  # the same reason, without the anchors that the operator did not write
    (reason,) = refused.args
    raise MatcherError(
        f"{pattern!r} is no regular expression: {reason.decode()}; the syntax is RE2's,"
        " https://github.com/google/re2/wiki/Syntax",
        position=0,
    )
