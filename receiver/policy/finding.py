"""The findings of `promheal doctor`."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Grade(StrEnum):
    OK = "ok"
    WARN = "warn"
    """It works, and is probably not what was meant."""
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question."""

    subject: str
    """What was asked: `service checkout`, `prometheus`."""
    state: Grade
    detail: str
    """What is so, and for a warning or failure what to mend."""


def ok(subject: str, detail: str) -> Finding:
    return Finding(subject=subject, state=Grade.OK, detail=detail)


def warn(subject: str, detail: str) -> Finding:
    return Finding(subject=subject, state=Grade.WARN, detail=detail)


def fail(subject: str, detail: str) -> Finding:
    return Finding(subject=subject, state=Grade.FAIL, detail=detail)
