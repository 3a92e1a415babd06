"""`promheal runs`: what has been done lately?"""

from __future__ import annotations

from typing import Any

import click

from receiver.cli import client
from receiver.cli import options as shared
from receiver.cli.client import Server
from receiver.cli.output import moment, paged, show, table
from receiver.cli.values import WordOf
from receiver.policy.run import Outcome, State


@click.command("runs")
@client.server
@shared.output
@click.option("--strategy", help="Only runs of this strategy.")
@click.option(
    "--state",
    type=WordOf(State, other="--outcome", others=Outcome),
    help="Only runs in this state.",
)
@click.option(
    "--outcome",
    type=WordOf(Outcome, other="--state", others=State),
    help="Only runs that ended so.",
)
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--before", type=int, help="Only runs older than this id: the next page.")
def command(server: Server, output: str, **query: Any) -> None:
    """List the runs of a running server, newest first."""
    page = server.get("/api/runs", **query)
    show(page, output, lambda: _text(page))


def _text(page: dict[str, Any]) -> str:
    rows = [
        [
            run["id"],
            run["strategy"],
            run["target"],
            run["outcome"] or run["state"],
            moment(run["createdAt"]),
            run["reason"][:60],
        ]
        for run in page["runs"]
    ]
    if not rows:
        return "no runs"
    text = table(rows, ["ID", "STRATEGY", "TARGET", "OUTCOME", "CREATED", "REASON"])
    return paged(text, "--before", page["next"])
