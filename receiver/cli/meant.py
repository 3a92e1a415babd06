"""Which option did the user mean?

click finds a misspelt one. Here are the names that other programs have for a listen address, and
a command's options written before it, as in Prometheus, which has no commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

_ADDRESS: Final = frozenset(
    {"--address", "--bind", "--host", "--listen", "--listen-address", "--port", "--server", "-p"}
)
_LISTEN: Final = "--web.listen-address"
_DEFAULT: Final = "127.0.0.1:3001"


def meant(problem: click.NoSuchOption, arguments: Sequence[str], serve: click.Command) -> str:
    """Return what is wrong and what to write instead; *arguments* are the whole command line."""
    context, said = problem.ctx, problem.format_message()
    assert context is not None  # a command raised it
    before = context.command is context.find_root().command
    command = serve if before else context.command
    options = {name: one for one in command.params for name in one.opts}
    option, value = problem.option_name, _value(problem.option_name, arguments)
    if before and option in options:
        written = f"{option} {value}" if value else option
        return f"{said} It is an option of commands: promheal {serve.name} {written}"
    if option not in _ADDRESS:
        return said
    if _LISTEN in options:
        default = options[_LISTEN].default
        words = f"{_LISTEN} {_address(value, str(default))}"
    elif "--url" in options:
        words = f"--url http://{_address(value, _DEFAULT)}"
    else:
        return said
    call = f"promheal {serve.name} " if before else ""
    return f"No such option {option!r}. Did you mean {call}{words}?"


def _value(option: str, arguments: Sequence[str]) -> str:
    """Return the option's value, or an empty text."""
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
        if argument == option:
            return "" if following.startswith("-") else following
    return ""


def _address(value: str, default: str) -> str:
    host, _, port = default.rpartition(":")
    if value.isdigit():
        return f"{host}:{value}"
    if not value:
        return default
    return value if ":" in value else f"{value}:{port}"
