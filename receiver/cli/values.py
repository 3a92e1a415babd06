"""Types of arguments: durations, targets, run ids, and the reason that every change needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import click

from receiver.policy.duration import parse_duration
from receiver.yaml.diagnostics import quoted

MAX_REASON: Final = 500
"""Characters on one line, as on the server."""
BIGGEST: Final = 2**62
"""The largest run id that a journal can hold."""


class _Duration(click.ParamType[float]):
    name = "duration"

    def __init__(self, *, zero: bool) -> None:
        self._zero = zero

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = value if isinstance(value, float) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not seconds and not self._zero:
            self.fail("must be longer than nothing; write for example 30s, 5m or 1h30m", param, ctx)
        return seconds


class WordOf(click.Choice[str]):
    """A choice of words; a word of another option gets a hint to that option."""

    def __init__(self, words: Iterable[str], *, other: str, others: Iterable[str]) -> None:
        super().__init__([str(word) for word in words])
        self._other, self._others = other, frozenset(others)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self._others:
            self.fail(f"{value!r} is for another option; write {self._other} {value}", param, ctx)
        return super().convert(value, param, ctx)


class RunId(click.ParamType[int]):
    """The number of a run; anything else gets a hint to the command that lists runs."""

    name = "id"

    def __init__(self, listed: str) -> None:
        self._listed = listed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) <= BIGGEST):
            self.fail(f"{quoted(text)} is no run's number; `{self._listed}` shows them", param, ctx)
        return int(text)


class _Text(click.ParamType[str]):
    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if not text:
            self.fail("must not be empty; write why", param, ctx)
        if len(text) > MAX_REASON or not text.isprintable():
            self.fail(f"must be one line of up to {MAX_REASON} characters", param, ctx)
        return text


class _Target(click.ParamType[str]):
    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from receiver.policy.scope import ScopeError, parse_scope  # noqa: PLC0415  --help needs no RE2

        scope = f"target:{value}"
        try:
            parse_scope(scope)
        except ScopeError as error:
            self.fail(str(error), param, ctx)
        return scope


DURATION: Final = _Duration(zero=True)
"""A Prometheus duration, in seconds."""
SPAN: Final = _Duration(zero=False)
"""The same, longer than nothing."""
REASON: Final = _Text()
TARGET: Final = _Target()
"""A target for `pause`, converted to the scope that means it."""

reason = click.option("--reason", type=REASON, required=True, help="Why; the audit keeps it.")
