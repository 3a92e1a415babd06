"""`command`: run a program, from an argv. There is no shell, and no label becomes code.

A value comes to the program as a variable of its environment, whose name begins with `PROMHEAL_`,
or in an argument for which the strategy says what it may be (receiver/actions/parameters.py).
"""

from __future__ import annotations

import pathlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from receiver import process
from receiver.actions import Action, Context
from receiver.actions.parameters import Path
from receiver.errors import ActionError
from receiver.policy.texts import Argv, FilePath
from receiver.process.interpreters import Reading, readings
from receiver.services import Inventory
from receiver.template import RESERVED, ProseText, is_template

_VARIABLE: Final = re.compile("PROMHEAL_[A-Z0-9_]{1,64}")


class CommandParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    argv: Annotated[Argv, msgspec.Meta(min_length=1)]
    """The program and its arguments. The program is written out: a full path, or a name that is
    looked for in `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`."""
    undo: Argv = ()
    """What takes it back. It finds the exit code of `argv` in `PROMHEAL_STEP_EXIT`, when that is
    known."""
    env: dict[str, ProseText] = {}
    """Variables for `argv` and `undo`. Their names begin with `PROMHEAL_`, of `A-Z`, `0-9` and `_`;
    their values are any texts, also templates."""
    cwd: FilePath | None = None
    """Where it runs; `/` when left out. No template."""
    idempotent: bool = False
    """Whether it may be run again when promheal died while it ran."""
    leave_running: bool = False
    """Leave processes that it started and that outlive it, as a daemon does. By default they are
    killed."""
    expect_exit: int = 0
    """The exit code that means success."""


class Command(Action):
    name = "command"
    Params = CommandParams

    def idempotent(self, params: CommandParams) -> bool:
        return params.idempotent

    def problems(self, params: CommandParams, inventory: Inventory) -> Iterable[str]:  # noqa: ARG002
        yield from _problems("argv", params.argv)
        if params.undo:
            yield from _problems("undo", params.undo)
        yield from _variable_problems(params.env)
        if params.cwd is not None:
            if is_template(params.cwd):
                yield "cwd: a label may not choose the directory; write it out"
            elif not pathlib.Path(params.cwd).is_dir():
                yield f"cwd: there is no directory {params.cwd!r}"

    def readings(self, params: CommandParams) -> Iterable[tuple[Path, Reading]]:
        for field, argv in (("argv", params.argv), ("undo", params.undo)):
            for reading in readings(argv) if argv else ():
                yield (field, reading.position), reading

    def run(self, params: CommandParams, context: Context) -> dict[str, Any]:
        return _run(params.argv, params, context, {}, params.expect_exit)

    def undoable(self, params: CommandParams) -> bool:
        return bool(params.undo)

    def rollback(
        self, params: CommandParams, context: Context, result: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        if not params.undo:
            raise ActionError("there is no `undo`")
        known = (result or {}).get("exit_code")
        return _run(
            params.undo,
            params,
            context,
            {} if known is None else {"PROMHEAL_STEP_EXIT": str(known)},
        )


def _run(
    argv: tuple[str, ...],
    params: CommandParams,
    context: Context,
    env: Mapping[str, str],
    expect_exit: int = 0,
) -> dict[str, Any]:
    leftovers: Literal["kill", "leave"] = "leave" if params.leave_running else "kill"
    finished = process.run(
        argv,
        timeout=context.timeout,
        env={**params.env, **context.variables, **env},
        cwd=params.cwd,
        leftovers=leftovers,
    )
    if finished.timed_out:
        problem = f"did not end within {context.timeout:g} s and was killed"
    elif finished.signal is not None:
        problem = f"was ended by signal {finished.signal}"
    elif finished.exit_code != expect_exit:
        problem = f"ended with exit code {finished.exit_code}, not {expect_exit}"
    else:
        return {
            "argv": list(finished.argv),
            "exit_code": finished.exit_code,
            "seconds": round(finished.seconds, 3),
            "output": finished.output,
        }
    raise ActionError(f"{argv[0]!r} {problem}", output=finished.output)


def _problems(field: str, argv: tuple[str, ...]) -> Iterator[str]:
    program = argv[0]
    if is_template(program):
        yield f"{field}[0]: a label may not choose the program; write it out"
    elif not program:
        yield f"{field}[0]: the program's name is empty"
    elif "/" in program and not program.startswith("/"):
        yield f"{field}[0]: {program!r} is relative; write the full path, or only the name"
    elif shutil.which(program, path=process.PATH) is None:
        where = "" if program.startswith("/") else f" in {process.PATH}"
        yield f"{field}[0]: there is no program {program!r}{where} that may be executed"


def _variable_problems(env: Mapping[str, str]) -> Iterator[str]:
    for name in env:
        if name in RESERVED:
            yield f"env: {name} is promheal's own; write another name, as {name}_LABEL"
        elif not _VARIABLE.fullmatch(name):
            yield (
                f"env: {name!r} may not be set: programs take code from variables that they know, "
                "as LD_PRELOAD; write a name that begins with PROMHEAL_, of A-Z, 0-9 and _, as "
                "PROMHEAL_SERVICE"
            )
