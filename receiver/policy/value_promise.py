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
"""What it may hold."""


class State(Enum):
    """How far a value has been read that keeps the promise, or that it is broken."""

    BEGUN = auto()
    TEXT = auto()
    SLASH = auto()
    DOT = auto()
    """After a slash, or another dot that follows one."""
    DOTS = auto()
    BROKEN = auto()


KEPT: Final = frozenset({State.TEXT, State.SLASH})
"""Where a value that keeps the promise may end."""


def after(state: State, character: str) -> State:
    """Return how far it is when *character* has been read too."""
    if state is State.BROKEN or character not in (FIRST if state is State.BEGUN else LATER):
        return State.BROKEN
    match state, character:
        case ((State.DOT | State.DOTS), "/"):
            return State.BROKEN
        case _, "/":
            return State.SLASH
        case State.SLASH, ".":
            return State.DOT
        case State.DOT, ".":
            return State.DOTS
        case _:
            return State.TEXT


def fault_of(value: str) -> str:
    """Return how *value* breaks the promise, as the end of a sentence, or an empty text."""
    state = State.BEGUN
    for character in value:
        then = after(state, character)
        if then is State.BROKEN:
            if state in {State.DOT, State.DOTS}:
                break
            if character in LATER:
                return f"may not begin with {character!r}"
            return f"may not hold {_named(character)}"
        state = then
    if state is State.BEGUN:
        return "may not be empty"
    return "" if state in KEPT else "may not lead out of where it stands, as `.` and `..` do"


def _named(character: str) -> str:
    return "white space" if character.isspace() else repr(character)
