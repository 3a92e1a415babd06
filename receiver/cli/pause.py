"""`promheal pause`: let nothing begin for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click
import msgspec

from receiver.cli import values
from receiver.cli.api import Api, api
from receiver.cli.output import moment, table
from receiver.log import escape
from receiver.policy.duration import format_duration

F = TypeVar("F", bound=Callable[..., Any])


class PauseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One pause, as the server shows it."""

    id: int
    scope: str
    reason: str
    by: str = ""
    since: float
    until: float | None = None


class _Some(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    first: list[int | str]


class _Covers(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    strategies: list[str]
    alerts: int
    targets: _Some
    runs_under_way: _Some
    runs_waiting: _Some


class _Paused(PauseStatus, frozen=True, kw_only=True):
    covers: _Covers | None = None
    """None from a server that does not tell."""


def scope_options(function: F) -> F:
    """Add --strategy and --target, which narrow the scope; without them it is everything."""
    function = click.option(
        "--target",
        type=values.TARGET,
        metavar="TARGET",
        help="Only this target: web, service=web, or matchers as 'service=~\"web.*\"'.",
    )(function)
    return click.option("--strategy", metavar="NAME", help="Only this strategy.")(function)


def scope_of(strategy: str | None, target: str | None) -> str:
    """Return the scope as the server writes it. Raises UsageError if both are given."""
    if strategy is not None and target is not None:
        raise click.UsageError("--strategy and --target: give one of them")
    return target or ("all" if strategy is None else f"strategy:{strategy}")


def text(pauses: Sequence[PauseStatus]) -> str:
    return table(
        [
            [
                one.scope,
                "until resumed" if one.until is None else f"until {moment(one.until)}",
                one.by,
                one.reason,
            ]
            for one in pauses
        ],
        ["PAUSED", "UNTIL", "BY", "REASON"],
    )


@click.command("pause")
@values.reason
@click.option(
    "--for", "span", type=values.SPAN, help="How long, as 30m; without it, until `promheal resume`."
)
@scope_options
@click.option(
    "--even-if-unknown", is_flag=True, help="Also a strategy or a target that was never heard of."
)
@api
def command(
    reason: str,
    span: float | None,
    strategy: str | None,
    target: str | None,
    api: Api,
    *,
    even_if_unknown: bool,
) -> None:
    """Let nothing begin, anywhere or for one strategy or target. What is under way goes on.

    The answer says what that covers now. Exit code 1 when the server refuses, as what covers
    nothing that is known.
    """
    given: dict[str, Any] = {} if span is None else {"for": format_duration(span)}
    if even_if_unknown:
        given["evenIfUnknown"] = True
    scope = scope_of(strategy, target)
    api.post("/api/system/heal/pause", _Paused, _text, reason=reason, scope=scope, **given)


def _text(paused: _Paused) -> str:
    lines = [text([paused])]
    if paused.covers is not None:
        lines += _covered(paused.covers)
    return "\n".join(lines)


def _covered(covers: _Covers) -> Iterator[str]:
    """Yield what a pause means now, in sentences."""
    strategies = ", ".join(covers.strategies) or "none that is configured"
    yield escape(f"it holds for the strategies: {strategies}")
    if covers.targets.count:
        yield escape(f"alerts that fire: {covers.alerts}; targets now: {_first(covers.targets)}")
    else:
        yield "nothing of it fires now; it holds for what comes"
    if covers.runs_waiting.count:
        yield f"runs that wait, and do not begin: {_first(covers.runs_waiting)}"
    if covers.runs_under_way.count:
        runs = _first(covers.runs_under_way)
        yield f"runs under way, which go on: {runs}; promheal cancel ID --reason WHY ends one"


def _first(some: _Some) -> str:
    left = some.count - len(some.first)
    return ", ".join(map(str, some.first)) + (f" and {left} more" if left else "")
