"""`promheal resume`: may it begin again?"""

from __future__ import annotations

import click
import msgspec

from receiver.cli import client, values
from receiver.cli import options as shared
from receiver.cli.client import Server
from receiver.cli.output import show
from receiver.cli.pause import Pause, scope_of, scope_options
from receiver.cli.pause import text as paused_text


class _Resumed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    dormancy_ended: bool
    pauses_lifted: list[Pause]


@click.command("resume")
@values.reason
@scope_options
@client.server
@shared.output
def command(
    reason: str, strategy: str | None, target: str | None, server: Server, output: str
) -> None:
    """End dormancy and pauses of everything, or the pauses of one strategy or target.

    Exit code 1 when there was nothing to end.
    """
    answer = server.post("/api/system/heal/resume", reason=reason, scope=scope_of(strategy, target))
    show(answer, output, lambda: _text(client.understood(answer, _Resumed)))


def _text(resumed: _Resumed) -> str:
    lines = ["dormancy has ended"] if resumed.dormancy_ended else []
    if resumed.pauses_lifted:
        lines += ["lifted:", paused_text(resumed.pauses_lifted)]
    return "\n".join(lines)
