"""What is known of a part of an expression?

| value | meaning |
| --- | --- |
| present | it has what it needs, and returns something |
| empty | it returns nothing, and that is proven |
| decided | it returns something or nothing; either way it rests on numbers |
| never | it never had data |
| unknown | what it rests on is missing, not a number, or from before the action |
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec


class Kind(StrEnum):
    PRESENT = "present"
    EMPTY = "empty"
    DECIDED = "decided"
    NEVER = "never"
    UNKNOWN = "unknown"


class Value(msgspec.Struct, frozen=True):
    kind: Kind
    why: str = ""
    """For the operator: what is missing. Only for unknown and never."""

    @property
    def is_open(self) -> bool:
        """Nothing can be concluded from it."""
        return self.kind in {Kind.NEVER, Kind.UNKNOWN}


PRESENT: Final = Value(Kind.PRESENT)
EMPTY: Final = Value(Kind.EMPTY)
DECIDED: Final = Value(Kind.DECIDED)


def unknown(why: str) -> Value:
    return Value(Kind.UNKNOWN, why)


def weakest(parts: Iterable[Value]) -> Value:
    """The value of what needs all of its parts."""
    found = list(parts)
    for kind in (Kind.UNKNOWN, Kind.NEVER):
        for value in found:
            if value.kind is kind:
                return value
    kinds = {value.kind for value in found}
    if Kind.EMPTY in kinds:
        return EMPTY
    return DECIDED if Kind.DECIDED in kinds else PRESENT


def either(left: Value, right: Value) -> Value:
    for value in (left, right):
        if value.kind is Kind.UNKNOWN:
            return value
    known = [value for value in (left, right) if value.kind is not Kind.NEVER]
    if not known:
        return left
    kinds = {value.kind for value in known}
    if kinds == {Kind.EMPTY}:
        return EMPTY
    return DECIDED if Kind.DECIDED in kinds else PRESENT


def cut(text: str) -> str:
    """Return the beginning of a text for an operator."""
    return text if len(text) <= 200 else text[:200] + "…"
