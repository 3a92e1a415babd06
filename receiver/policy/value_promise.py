"""What does every value promise that a pattern lets into an argument of a program?

It is not empty, begins with a letter, a digit, `_` or `/`, holds nothing else but these and
`. : @ + , -`, all of them ASCII, and has no `.` and no `..` between its slashes. So it is no
option, no assignment, nothing that a shell or make expands, one word, and leads to nothing above.
"""

from __future__ import annotations

import string
from enum import Enum, auto
from typing import Final

WORD: Final = frozenset(string.ascii_letters + string.digits + "_")
FIRST: Final = WORD | {"/"}
"""What a value may begin with."""
LATER: Final = FIRST | frozenset(".:@+,-")
"""What a value may hold after that."""


class ValueState(Enum):
    """How far a value has been read, or that it breaks the promise."""

    BEGUN = auto()
    TEXT = auto()
    SLASH = auto()
    DOT = auto()
    """After a slash, or another dot that follows one."""
    DOTS = auto()
    BROKEN = auto()


KEPT: Final = frozenset({ValueState.TEXT, ValueState.SLASH})
"""Where a value that keeps the promise may end."""


def after(state: ValueState, character: str) -> ValueState:
    """Return how far it is when *character* has been read too."""
    if state is ValueState.BROKEN or character not in (
        FIRST if state is ValueState.BEGUN else LATER
    ):
        return ValueState.BROKEN
    match state, character:
        case ((ValueState.DOT | ValueState.DOTS), "/"):
            return ValueState.BROKEN
        case _, "/":
            return ValueState.SLASH
        case ValueState.SLASH, ".":
            return ValueState.DOT
        case ValueState.DOT, ".":
            return ValueState.DOTS
        case _:
            return ValueState.TEXT


def fault_of(value: str) -> str:
    """Return how *value* breaks the promise, as the end of a sentence, or an empty text."""
    state = ValueState.BEGUN
    for character in value:
        then = after(state, character)
        if then is ValueState.BROKEN:
            if state in {ValueState.DOT, ValueState.DOTS}:
                break
            if character in LATER:
                return f"may not begin with {character!r}"
            return f"may not hold {_named(character)}"
        state = then
    if state is ValueState.BEGUN:
        return "may not be empty"
    return "" if state in KEPT else "may not lead out of where it stands, as `.` and `..` do"


def _named(character: str) -> str:
    return "white space" if character.isspace() else repr(character)
