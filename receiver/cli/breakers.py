"""`promheal breakers`: what stopped, because it kept failing?"""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from receiver.cli import client
from receiver.cli import options as shared
from receiver.cli.client import Server
from receiver.cli.output import moment, show, table


class Breaker(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One breaker, as the server says."""

    name: str
    state: str
    failure_count: int = 0
    trips: int = 0
    until: float | None = None
    trial: int | None = None
    permanent_open_reason: str | None = None

    @property
    def why(self) -> str:
        """What it waits for, or why it does not."""
        if self.permanent_open_reason:
            return self.permanent_open_reason
        if self.trial is not None:
            return f"run {self.trial} is the trial"
        return "" if self.until is None else f"next trial from {moment(self.until)}"


class _Breakers(msgspec.Struct, frozen=True):
    breakers: list[Breaker]


@click.command("breakers")
@client.server
@shared.output
def command(server: Server, output: str) -> None:
    """List the circuit breakers of a running server.

    Shown are the main one, one a strategy, and those of targets that are not closed or have
    failures.
    """
    answer = server.get("/api/breakers")
    show(answer, output, lambda: text(client.understood(answer, _Breakers).breakers))


def text(breakers: Sequence[Breaker]) -> str:
    return table(
        [[one.name, one.state, one.failure_count, one.trips, one.why] for one in breakers],
        ["NAME", "STATE", "FAILURES", "TRIPS", ""],
    )
