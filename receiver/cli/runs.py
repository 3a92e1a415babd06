"""`promheal runs`: what was done lately."""

from __future__ import annotations

from typing import Any

import click

from receiver.cli import paging
from receiver.cli.api import Api, api
from receiver.cli.output import moment
from receiver.cli.values import WordOf
from receiver.policy.run import Outcome, State


@click.command("runs")
@api
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
@paging.by_id("runs")
def command(api: Api, **query: Any) -> None:
    """List the runs of a running server, newest first."""
    api.get("/api/runs", dict[str, Any], _text, **query)


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
    header = ["ID", "STRATEGY", "TARGET", "OUTCOME", "CREATED", "REASON"]
    return paging.listing(rows, header, empty="no runs", option="--before", following=page["next"])
