"""`promheal breaker reset`: close a breaker once what kept failing is repaired."""

from __future__ import annotations

import click

from receiver.cli import values
from receiver.cli.api import Api, api, segment
from receiver.cli.breakers import BreakerStatus, text


@click.group("breaker")
def command() -> None:
    """Change a circuit breaker of a running server."""


@command.command("reset")
@click.argument("name")
@values.reason
@click.option("--force", is_flag=True, help="Also one that is PERMANENT_OPEN.")
@api
def reset(name: str, reason: str, api: Api, *, force: bool) -> None:
    """Close breaker NAME, so that runs may begin again.

    `promheal breakers` lists the names; that of a target is also target:web or target:service=web.
    Exit code 1 when the server refuses: one that is PERMANENT_OPEN needs --force.
    """
    path = f"/api/breakers/{segment(name)}/reset"
    api.post(path, BreakerStatus, lambda one: text([one]), reason=reason, force=force or None)
