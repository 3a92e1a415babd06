"""The command `promheal`. Each subcommand is a module, imported only when it is called."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from io import StringIO
from traceback import format_exception
from types import TracebackType
from typing import Any, Final

import click

from receiver.errors import PromhealError, RefusedError
from receiver.redaction import redact
from receiver.yaml.diagnostics import quoted, suggestion

FINE: Final = 0
FINDINGS: Final = 1
"""Something was found, was refused, or did not heal."""
BROKEN: Final = 2
"""The configuration is broken, or promheal itself."""
WARNINGS: Final = 3
"""Nothing worse than warnings."""

COMMANDS: Final = {
    "serve": "Receive Alertmanager's notifications and heal.",
    "work": "Carry the work of many machines, or of one host.",
    "check": "Report every problem of the configuration.",
    "doctor": "Ask everything that it names whether it will work.",
    "once": "Take alerts from a file through the whole way, once.",
    "watch": "The same again and again, whenever the file has news.",
    "test": "Try the strategies in virtual time, by test files.",
    "explain": "Show why something was decided, or what is said to the alerts of a file.",
    "status": "Show how a running server is.",
    "alerts": "List what fires, with the strategies that match.",
    "runs": "List the runs of a running server, newest first.",
    "run": "Show one run: decision, steps, verification.",
    "approve": "Let a run begin that waits for a person.",
    "reject": "Say no to a run that waits for a person.",
    "cancel": "End a run, and undo what it did.",
    "pause": "Let nothing begin, for a while or until resumed.",
    "resume": "End dormancy and pauses.",
    "breakers": "List the circuit breakers of a running server.",
    "breaker": "Reset a circuit breaker.",
    "tasks": "List and steer the background tasks of a running server.",
    "audit": "List what people changed, newest first.",
    "log": "Write what was done as lines, for other programs.",
    "journal": "Move the journal from SQLite to PostgreSQL, and back.",
    "backup": "Write the journal and the configuration into one file.",
    "restore": "Put the journal of a backup in the place of the one there.",
    "config": "Show what was loaded and go back; write what others need.",
    "demo": "Make a real service sick and watch it being healed.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"receiver.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {quoted(args[0])}{suggestion(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands,
    epilog="Exit codes: 0 fine, 1 findings or refused, 2 configuration or internal error, "
    "3 warnings only. Start with: promheal check && promheal serve",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version("promheal"), "-V", "--version", prog_name="promheal")
def root() -> None:
    """A self-healing receiver for Prometheus Alertmanager.

    It heals, proves through Prometheus that the heal worked, and knows when to stop.
    """


def _print_uncaught(
    kind: type[BaseException], problem: BaseException, traceback: TracebackType | None
) -> None:
    """Print an uncaught exception as Python does, without secrets."""
    click.echo(redact("".join(format_exception(kind, problem, traceback))), err=True, nl=False)


def _better(problem: click.NoSuchOption, arguments: Sequence[str]) -> click.UsageError:
    from receiver.cli.meant import meant  # noqa: PLC0415  only who mistypes needs it

    serve = root.get_command(click.Context(root), "serve")
    assert serve is not None
    return click.UsageError(meant(problem, arguments, serve), problem.ctx)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends with one of the exit codes above."""
    sys.excepthook = _print_uncaught
    threading.excepthook = lambda args: _print_uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )
    try:
        result: Any = root.main(args=arguments, prog_name="promheal", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as problem:
        if isinstance(problem, click.NoSuchOption):
            problem = _better(problem, sys.argv[1:] if arguments is None else arguments)
        with StringIO() as shown:
            problem.show(shown)
            click.echo(redact(shown.getvalue()), err=True, nl=False)
        sys.exit(BROKEN)
    except PromhealError as problem:
        click.echo(redact(f"promheal: {problem}"), err=True)
        sys.exit(FINDINGS if isinstance(problem, RefusedError) else BROKEN)
    sys.exit(result if isinstance(result, int) else FINE)
