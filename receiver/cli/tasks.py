"""`promheal tasks`: what happens by the clock, and does it?"""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from receiver.cli import client, values
from receiver.cli import options as shared
from receiver.cli.client import Server
from receiver.cli.output import moment, show, table
from receiver.policy.duration import format_duration

_reason = click.option("--reason", type=values.REASON, help="Why; the audit keeps it.")


class Task(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One background task, as the server says."""

    id: str
    interval_seconds: float
    paused: bool = False
    last_run: float | str | None = None
    """Seconds since the epoch, or ISO 8601 where the status says it."""
    next_run: float | str | None = None
    runs: int = 0
    failures: int = 0
    last_error: str = ""


class _Tasks(msgspec.Struct, frozen=True, kw_only=True):
    tasks: list[Task] = []
    removed: list[str] = []
    registered: list[str] = []


class _Removed(msgspec.Struct, frozen=True):
    removed: str


class _ListAtFirst(click.Group):
    """`promheal tasks -o json` lists, without a word for it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("tasks", cls=_ListAtFirst)
def command() -> None:
    """List and steer the background tasks of a running server; alone, it lists them."""


@command.command("list")
@client.server
@shared.output
def list_tasks(server: Server, output: str) -> None:
    """List the tasks: how often, when last and next, and what went wrong."""
    answer = server.get("/api/tasks")
    show(answer, output, lambda: text(client.understood(answer, _Tasks).tasks))


@command.command("pause")
@_reason
@client.server
@shared.output
def pause(reason: str | None, server: Server, output: str) -> None:
    """Pause all tasks, until they are resumed. Healing goes on; `promheal pause` ends that."""
    _change("pause", reason, server, output)


@command.command("resume")
@_reason
@client.server
@shared.output
def resume(reason: str | None, server: Server, output: str) -> None:
    """Go on with all tasks."""
    _change("resume", reason, server, output)


@command.command("cleanup")
@_reason
@client.server
@shared.output
def cleanup(reason: str | None, server: Server, output: str) -> None:
    """Remove tasks that are not the configuration's, and register those of it that are missing."""
    _change("cleanup", reason, server, output)


@command.command("remove")
@click.argument("task", metavar="ID")
@_reason
@client.server
@shared.output
def remove(task: str, reason: str | None, server: Server, output: str) -> None:
    """Remove task ID; `promheal tasks cleanup` brings it back."""
    answer = server.delete(f"/api/tasks/{client.segment(task)}", reason=reason)
    show(answer, output, lambda: table([["removed", client.understood(answer, _Removed).removed]]))


def _change(verb: str, reason: str | None, server: Server, output: str) -> None:
    answer = server.post(f"/api/tasks/{verb}", reason=reason)
    show(answer, output, lambda: _changed_text(client.understood(answer, _Tasks)))


def _changed_text(changed: _Tasks) -> str:
    changes = [["removed", one] for one in changed.removed]
    changes += [["registered", one] for one in changed.registered]
    return "\n".join(filter(None, [table(changes), text(changed.tasks)]))


def text(tasks: Sequence[Task]) -> str:
    rows = [
        [
            task.id,
            f"every {format_duration(task.interval_seconds)}",
            "paused" if task.paused else "active",
            _moment(task.last_run),
            _moment(task.next_run),
            task.runs,
            task.failures,
            task.last_error,
        ]
        for task in tasks
    ]
    header = ["ID", "INTERVAL", "STATE", "LAST", "NEXT", "RUNS", "FAILURES", "LAST ERROR"]
    return table(rows, header) if rows else "no tasks"


def _moment(at: float | str | None) -> str:
    return at if isinstance(at, str) else moment(at)
