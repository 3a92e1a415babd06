"""`promheal resume`: end dormancy and pauses."""

from __future__ import annotations

from collections.abc import Iterable

import click
import msgspec

from receiver.cli import values
from receiver.cli.api import Api, api
from receiver.cli.pause import PauseStatus, scope_of, scope_options
from receiver.cli.pause import text as paused_text
from receiver.errors import RefusedError
from receiver.reporting.needs.engine import resuming


class _Pauses(msgspec.Struct, frozen=True):
    pauses: list[PauseStatus]


class _Resumed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    dormancy_ended: bool
    pauses_lifted: list[PauseStatus]
    stays_paused: list[PauseStatus] = []


@click.command("resume")
@values.reason
@scope_options
@api
def command(reason: str, strategy: str | None, target: str | None, api: Api) -> None:
    """End dormancy and pauses of everything, or the pauses of one strategy or target.

    What is paused on its own stays so, and is listed with the command that lifts it. Exit code 1
    when there was nothing to end.
    """
    scope = scope_of(strategy, target)
    try:
        api.post("/api/system/heal/resume", _Resumed, _text, reason=reason, scope=scope)
    except RefusedError as refused:
        if refused.code != "not_paused":
            raise
        left = api.look("/api/pauses", _Pauses).pauses
        raise RefusedError(f"{refused}\n{_commands(left)}", status=refused.status) from None


def _text(resumed: _Resumed) -> str:
    lines = ["dormancy has ended"] if resumed.dormancy_ended else []
    if resumed.pauses_lifted:
        lines += ["lifted:", paused_text(resumed.pauses_lifted)]
    if resumed.stays_paused:
        lines += ["still paused:", paused_text(resumed.stays_paused)]
        lines.append(_commands(resumed.stays_paused))
    return "\n".join(lines)


def _commands(pauses: Iterable[PauseStatus]) -> str:
    commands = dict.fromkeys(resuming(pause.scope) for pause in pauses)
    return "\n".join(["to lift it:", *(f"  {command}" for command in commands)])
