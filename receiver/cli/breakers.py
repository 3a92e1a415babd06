"""`promheal breakers`: what stopped because it kept failing."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from receiver.cli.api import Api, api
from receiver.cli.output import moment, table


class BreakerStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One breaker, as the server shows it."""

    name: str
    state: str
    failure_count: int = 0
    trips: int = 0
    until: float | None = None
    trial: int | None = None
    permanent_open_reason: str | None = None

    @property
    def why(self) -> str:
        """What it waits for, or why it does not wait."""
        if self.permanent_open_reason:
            return self.permanent_open_reason
        if self.trial is not None:
            return f"run {self.trial} is the trial"
        return "" if self.until is None else f"next trial from {moment(self.until)}"


class _Breakers(msgspec.Struct, frozen=True):
    breakers: list[BreakerStatus]


@click.command("breakers")
@api
def command(api: Api) -> None:
    """List the circuit breakers of a running server.

    Shown are the main one, one a strategy, and those of targets that are not closed or have
    failures.
    """
    api.get("/api/breakers", _Breakers, lambda answer: text(answer.breakers))


def text(breakers: Sequence[BreakerStatus]) -> str:
    return table(
        [[one.name, one.state, one.failure_count, one.trips, one.why] for one in breakers],
        ["NAME", "STATE", "FAILURES", "TRIPS", ""],
    )
