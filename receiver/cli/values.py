"""What may an argument be? Durations, targets, and the reason that every change needs."""

from __future__ import annotations

from typing import Any, Final

import click

from receiver.duration import parse_duration

MAX_REASON: Final = 500
"""Characters, on one line; the server takes no more."""


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
        from receiver.scope import ScopeError, parse_scope  # noqa: PLC0415  --help needs no RE2

        scope = f"target:{value}"
        try:
            parse_scope(scope)
        except ScopeError as error:
            self.fail(str(error), param, ctx)
        return scope


DURATION: Final = _Duration(zero=True)
"""A Prometheus duration, in seconds."""
SPAN: Final = _Duration(zero=False)
"""The same, and more than nothing."""
REASON: Final = _Text()
TARGET: Final = _Target()
"""What `pause` takes for a target, as the scope that means it."""

reason = click.option("--reason", type=REASON, required=True, help="Why; the audit keeps it.")
