r"""What may a value be that becomes part of a command? A pattern, and what it must promise.

A program reads its arguments as it likes: as an option (`-rf`), an assignment (`CC=…`), an
expansion (`$(shell …)`), two words, a way up (`../..`). No list of programs ends, so the value is
bounded instead: whatever a pattern lets through keeps the promise of value_promise.py.

Whether it does is decided, not guessed: the pattern becomes an automaton, which is walked together
with that of the promise; a value that breaks it is found if there is one, and told. So patterns are
what value_grammar.py reads. They are matched by RE2 itself, anchored at both ends.
"""

from __future__ import annotations

import string
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Annotated, Final

import msgspec
import re2

from receiver.policy.value_grammar import Choice, OneOf, PatternError, Repeat, Sequence, Tree, parse
from receiver.policy.value_promise import FIRST, KEPT, LATER, WORD, ValueState, after, fault_of

DEFAULT: Final = "[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}"
"""The proposal where no pattern is declared: names of hosts, units, containers, pods."""
LISTED: Final = "one|another"
"""The proposal where only listed values may stand."""
MAX_VALUE: Final = 4_096
"""Characters of a value that is compared with a pattern."""
_MAX_STATES: Final = 20_000
_MAX_LISTED: Final = 1_000

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False  # RE2 would write each of them to stderr


class ValuePattern:
    """A pattern that keeps the promise. Frozen, and in a configuration file a text.

    Raises PatternError.
    """

    __slots__ = ("_regex", "listed", "text")

    text: Final[str]
    listed: Final[frozenset[str]]
    """The values, when the pattern is nothing but a list of them; else none."""

    def __init__(self, text: str) -> None:
        tree = parse(text)
        try:
            self._regex = re2.compile(f"^(?:{text})$", _OPTIONS)
        except re2.error as error:
            why = error.args[0] if error.args else error
            why = why.decode("utf-8", "replace") if isinstance(why, bytes) else why
            raise PatternError(f"{text!r} is no regular expression: {why}") from None
        broken = _broken(tree)
        if broken is not None:
            shown = repr(broken if len(broken) <= 40 else f"{broken[:39]}…")
            raise PatternError(
                f"{text!r} lets {shown} through, and a value {fault_of(broken)}; write for example "
                f"{_instead(tree)!r}"
            )
        self.text = text
        self.listed = frozenset(_listed(tree) or ())

    def matches(self, value: str) -> bool:
        """Whether *value*, the whole of it, may stand where this pattern is declared."""
        return (
            len(value) <= MAX_VALUE
            and not fault_of(value)
            and self._regex.search(value.encode()) is not None
        )

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<ValuePattern {self.text}>"

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, ValuePattern) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)


parse_pattern: Final = lru_cache(maxsize=256)(ValuePattern)

ValuePatternText = Annotated[
    ValuePattern,
    msgspec.Meta(
        extra={"parse": parse_pattern},
        extra_json_schema={
            "type": "string",
            "minLength": 1,
            "examples": ["[a-z0-9][a-z0-9-]{0,39}", "checkout|cart"],
        },
    ),
]
"""A pattern; in YAML a text."""


# ── deciding ──


class _Automaton:
    """Thompson's: states are numbers, 0 is the first; it has read a value when it is in `last`."""

    def __init__(self, tree: Tree) -> None:
        self.silent: list[list[int]] = [[]]
        self.reads: list[list[tuple[frozenset[str], int]]] = [[]]
        self.last = self._add(tree, 0)

    def _state(self) -> int:
        if len(self.silent) >= _MAX_STATES:
            raise PatternError("it counts too far to be checked; write smaller numbers in {m,n}")
        self.silent.append([])
        self.reads.append([])
        return len(self.silent) - 1

    def _add(self, tree: Tree, start: int) -> int:
        """Add what reads *tree* from the state *start* on; return the state in which it has."""
        match tree:
            case OneOf(characters):
                end = self._state()
                self.reads[start].append((characters, end))
                return end
            case Sequence(parts):
                for part in parts:
                    start = self._add(part, start)
                return start
            case Choice(parts):
                end = self._state()
                for part in parts:
                    begin = self._state()
                    self.silent[start].append(begin)
                    self.silent[self._add(part, begin)].append(end)
                return end
            case Repeat(part, least, most):
                for _ in range(least):
                    start = self._add(part, start)
                end = self._state()
                self.silent[start].append(end)
                if most is None:
                    loop = self._state()
                    self.silent[start].append(loop)
                    again = self._add(part, loop)
                    self.silent[again] += [loop, end]
                else:
                    for _ in range(most - least):
                        start = self._add(part, start)
                        self.silent[start].append(end)
                return end

    def steps(self, state: int) -> Iterator[tuple[str, int]]:
        """Yield what leads on from *state*: one character of each sort, or none at all."""
        for following in self.silent[state]:
            yield "", following
        for characters, following in self.reads[state]:
            for sort in _SORTS:
                if here := characters & sort:
                    yield min(here), following
            for character in sorted(characters - LATER)[:1]:
                yield character, following


_SORTS: Final = (WORD, frozenset("/"), frozenset("."), LATER - FIRST - {"."})
"""Characters that the promise does not tell apart; what is in none of them breaks it."""


def _broken(tree: Tree) -> str | None:
    """Return a short value that *tree* lets through and that breaks the promise, if any does."""
    automaton = _Automaton(tree)
    first = (0, ValueState.BEGUN)
    came_from: dict[tuple[int, ValueState], tuple[tuple[int, ValueState], str]] = {}
    seen = {first}
    queue = deque([first])
    while queue:
        here = queue.popleft()
        state, promise = here
        if state == automaton.last and promise not in KEPT:
            found = []
            while here != first:
                here, character = came_from[here]
                found.append(character)
            return "".join(reversed(found))
        for character, following in automaton.steps(state):
            there = (following, after(promise, character) if character else promise)
            if there not in seen:
                seen.add(there)
                came_from[there] = here, character
                # An empty piece needs no transition.
                (queue.append if character else queue.appendleft)(there)
    return None


def _listed(tree: Tree) -> list[str] | None:
    """Return what a pattern lists, when it is nothing but a list of values."""
    match tree:
        case OneOf(characters):
            return list(characters) if len(characters) == 1 else None
        case Choice(parts) | Sequence(parts):
            found = [_listed(part) for part in parts]
            lists = [each for each in found if each is not None]
            if len(lists) < len(found):
                return None
            if isinstance(tree, Choice):
                return [value for each in lists for value in each]
            size = 1
            for each in lists:
                size *= len(each)
            if size > _MAX_LISTED:
                return None
            return ["".join(words) for words in product(*lists)]
        case _:
            return None


def _instead(tree: Tree) -> str:
    """Return a pattern to write instead: what was meant as far as that shows, or the default."""
    match tree:
        case Repeat(OneOf(characters), least, most):
            first, later = characters & WORD, characters & (LATER - {"/"})
            if first and most != 1:
                rest = "*" if most is None else f"{{{max(0, least - 1)},{most - 1}}}"
                return f"[{_written(first)}][{_written(later)}]{rest}"
        case _:
            pass
    return DEFAULT


def _written(characters: frozenset[str]) -> str:
    """Return the inside of a class that stands for *characters*."""
    whole = ""
    for group in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
        if characters >= set(group):
            whole += f"{group[0]}-{group[-1]}"
            characters -= set(group)
    return whole + "".join(sorted(characters - {"-"})) + ("-" if "-" in characters else "")
