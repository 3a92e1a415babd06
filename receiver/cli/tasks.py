"""`promheal tasks`: the background tasks, and how they fare."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from receiver.cli import values
from receiver.cli.api import Api, api, segment
from receiver.cli.output import moment, table
from receiver.policy.duration import format_duration

_reason = click.option("--reason", type=values.REASON, help="Why; the audit keeps it.")


class TaskStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One background task, as the server shows it."""

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
    tasks: list[TaskStatus] = []
    removed: list[str] = []
    registered: list[str] = []


class _Removed(msgspec.Struct, frozen=True):
    removed: str


class _ListAtFirst(click.Group):
    """Without a subcommand, and with options only, it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("tasks", cls=_ListAtFirst)
def command() -> None:
    """List and steer the background tasks of a running server; alone, it lists them."""


@command.command("list")
@api
def list_tasks(api: Api) -> None:
    """List the tasks: how often, when last and next, and what went wrong."""
    api.get("/api/tasks", _Tasks, lambda answer: text(answer.tasks))


def _changing(verb: str, text: str) -> None:
    """Add the command that changes all tasks."""

    @command.command(verb, help=text)
    @_reason
    @api
    def change(reason: str | None, api: Api) -> None:
        api.post(f"/api/tasks/{verb}", _Tasks, _changed_text, reason=reason)


_changing(
    "pause",
    "Pause all tasks, until they are resumed. Healing goes on; `promheal pause` ends that.",
)
_changing("resume", "Go on with all tasks.")
_changing(
    "cleanup",
    "Remove tasks that are not the configuration's, and register those of it that are missing.",
)


@command.command("remove")
@click.argument("task", metavar="ID")
@_reason
@api
def remove(task: str, reason: str | None, api: Api) -> None:
    """Remove task ID; `promheal tasks cleanup` brings it back."""
    path = f"/api/tasks/{segment(task)}"
    api.delete(path, _Removed, lambda one: table([["removed", one.removed]]), reason=reason)


def _changed_text(changed: _Tasks) -> str:
    changes = [["removed", one] for one in changed.removed]
    changes += [["registered", one] for one in changed.registered]
    return "\n".join(filter(None, [table(changes), text(changed.tasks)]))


def text(tasks: Sequence[TaskStatus]) -> str:
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
