"""`promheal approve`, `reject` and `cancel`: what a person decides about one run."""

from __future__ import annotations

import click
import msgspec

from receiver.cli import values
from receiver.cli.api import Api, api
from receiver.cli.output import table


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    strategy: str
    target: str
    state: str
    outcome: str | None = None
    reason: str = ""


def saying(verb: str, text: str, *, listed: str = "promheal runs --state pending") -> click.Command:
    """Return the command that says *verb* about a run, of those that *listed* shows."""

    @click.command(verb, help=f"{text}\n\nExit code 1 when there is no such run, or not so now.")
    @click.argument("number", metavar="ID", type=values.RunId(listed))
    @values.reason
    @api
    def command(number: int, reason: str, api: Api) -> None:
        api.post(f"/api/runs/{number}/{verb}", _Run, _text, reason=reason)

    return command


def _text(run: _Run) -> str:
    row = [run.id, run.strategy, run.target, run.outcome or run.state, run.reason]
    return table([row], ["ID", "STRATEGY", "TARGET", "OUTCOME", "REASON"])


command = saying("approve", "Let run ID begin, which waits for a person's approval.")
