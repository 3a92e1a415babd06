"""`promheal breaker reset`: is what kept failing repaired?"""

from __future__ import annotations

import click

from receiver.cli import client, values
from receiver.cli import options as shared
from receiver.cli.breakers import Breaker, text
from receiver.cli.client import Server
from receiver.cli.output import show


@click.group("breaker")
def command() -> None:
    """Change a circuit breaker of a running server."""


@command.command("reset")
@click.argument("name")
@values.reason
@click.option("--force", is_flag=True, help="Also one that is PERMANENT_OPEN.")
@client.server
@shared.output
def reset(name: str, reason: str, server: Server, output: str, *, force: bool) -> None:
    """Close breaker NAME, so that runs may begin again.

    `promheal breakers` lists the names; that of a target is also target:web or target:service=web.
    Exit code 1 when the server refuses: one that is PERMANENT_OPEN needs --force.
    """
    answer = server.post(
        f"/api/breakers/{client.segment(name)}/reset", reason=reason, force=force or None
    )
    show(answer, output, lambda: text([client.understood(answer, Breaker)]))
