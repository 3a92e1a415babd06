"""`promheal pause`: should nothing begin for a while?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from receiver.cli import client, values
from receiver.cli import options as shared
from receiver.cli.client import Server
from receiver.cli.output import moment, show, table
from receiver.duration import format_duration

F = TypeVar("F", bound=Callable[..., Any])


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """One pause, as the server says."""

    id: int
    scope: str
    reason: str
    by: str = ""
    since: float
    until: float | None = None


def scope_options(function: F) -> F:
    """Add --strategy and --target, which narrow what is meant; without them it is everything."""
    function = click.option("--target", metavar="KEY", help='Only this target: service="shop".')(
        function
    )
    return click.option("--strategy", metavar="NAME", help="Only this strategy.")(function)


def scope_of(strategy: str | None, target: str | None) -> str:
    """Return what is meant, as the server writes it. Raises UsageError for both."""
    if strategy is not None and target is not None:
        raise click.UsageError("--strategy and --target: give one of them")
    if strategy is not None:
        return f"strategy:{strategy}"
    return "all" if target is None else f"target:{target}"


def text(pauses: Sequence[Pause]) -> str:
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
@client.server
@shared.output
def command(
    reason: str,
    span: float | None,
    strategy: str | None,
    target: str | None,
    server: Server,
    output: str,
) -> None:
    """Let nothing begin, anywhere or for one strategy or target. What is under way goes on.

    Exit code 1 when the server refuses, as for an unknown strategy.
    """
    length = {} if span is None else {"for": format_duration(span)}
    answer = server.post(
        "/api/system/heal/pause", reason=reason, scope=scope_of(strategy, target), **length
    )
    show(answer, output, lambda: text([client.understood(answer, Pause)]))
