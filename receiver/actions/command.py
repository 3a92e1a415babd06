"""`command`: run a program, from an argv. There is no shell, and no label becomes code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from receiver import process
from receiver.actions import Action, Context
from receiver.errors import ActionError
from receiver.services import Inventory
from receiver.template import is_template


class CommandParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    argv: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """The program and its arguments; a rendered argument may not start with `-`."""
    undo: tuple[str, ...] = ()
    """What takes it back; it finds the exit code of `argv` in PROMHEAL_STEP_EXIT."""
    cwd: str | None = None
    idempotent: bool = False
    """Whether it may be run again when we died while it ran."""
    leave_running: bool = False
    """Leave processes that it started and that outlive it, as a daemon does."""
    expect_exit: int = 0


class Command(Action):
    name = "command"
    Params = CommandParams

    def idempotent(self, params: CommandParams) -> bool:
        return params.idempotent

    def problems(self, params: CommandParams, inventory: Inventory) -> Iterable[str]:  # noqa: ARG002
        yield from _problems("argv", params.argv)
        if params.undo:
            yield from _problems("undo", params.undo)
        if params.cwd is not None:
            if is_template(params.cwd):
                yield "cwd: a label may not choose the directory; write it out"
            elif not Path(params.cwd).is_dir():
                yield f"cwd: there is no directory {params.cwd!r}"

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
        env={**context.variables, **env},
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


# ── what a label may not become ──


class _Interpreter(NamedTuple):
    """A program that takes code in its arguments."""

    code: str
    """The letters of the options whose argument is code, or the name of a file of code."""
    values: str = ""
    """The letters of those whose argument is data."""
    operand: Literal["code", "end", "other"] = "code"
    """What the first argument that is no option is: code too, unless an option gave it; the end of
    the options; or neither."""


_SHELL: Final = _Interpreter("", "oO")  # -c has no argument: it says what the first operand is
_INTERPRETERS: Final = {
    **dict.fromkeys(("sh", "ash", "bash", "csh", "dash", "ksh"), _SHELL),
    **dict.fromkeys(("mksh", "rbash", "tcsh", "yash", "zsh"), _SHELL),
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk"), _Interpreter("ef", "vF")),
    **dict.fromkeys(("su", "runuser", "script"), _Interpreter("c", "gGsuw", "other")),
    **dict.fromkeys(("python", "pypy"), _Interpreter("cm", "WX")),
    **dict.fromkeys(("node", "nodejs"), _Interpreter("epr")),
    "env": _Interpreter("S", "uC", "end"),
    "fish": _Interpreter("cC"),
    "lua": _Interpreter("el"),
    "perl": _Interpreter("eEmM", "I"),
    "php": _Interpreter("rBREfF", "dcz"),
    "ruby": _Interpreter("er", "I"),
    "sed": _Interpreter("ef", "l"),
}
_CODE_OPTIONS: Final = frozenset(
    {"--command", "--session-command", "--eval", "--expression", "--file", "--init-command"}
    | {"--print", "--require", "--source", "--split-string"}
)
_JOINERS: Final = frozenset({"ssh", "rsh", "watch", "parallel"})
"""Programs that join their arguments to a line for a shell, here or elsewhere."""
_VERSION: Final = re.compile(r"[\d.]+$")


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
    for index, name in sorted(_code(argv)):
        if is_template(argv[index]):
            yield (
                f"{field}[{index}]: to {name!r} this is code, and labels never become code; pass "
                "the label as an argument of its own after it, or as PROMHEAL_ variable"
            )


def _code(argv: tuple[str, ...]) -> set[tuple[int, str]]:
    """Return the positions of the arguments that some program before them reads as code.

    A shell may also stand behind `sudo`, `timeout` or `docker exec`, so every word is looked at.
    But not every word is a program, as in `kubectl cordon node`: behind another program only what
    can hardly be meant otherwise counts.
    """
    found = set()
    for start, word in enumerate(argv):
        name = word.rpartition("/")[2]
        interpreter = _INTERPRETERS.get(name) or _INTERPRETERS.get(_VERSION.sub("", name))
        if name in _JOINERS and (start == 0 or name == "ssh"):
            found |= {(index, name) for index in range(start + 1, len(argv))}
        elif interpreter is not None:
            if start > 0 and interpreter.operand == "code" and interpreter is not _SHELL:
                interpreter = interpreter._replace(operand="end")
            for index in _code_of(interpreter, argv, start + 1):
                # In `sh -c '… "$1"' sh value` the second `sh` is a name, and the value is data.
                options = [option for option in argv[start + 1 : index] if option[:1] == "-"]
                if start == 0 or interpreter is not _SHELL or "c" in "".join(options):
                    found.add((index, name))
    return {(index, name) for index, name in found if index < len(argv)}


def _code_of(interpreter: _Interpreter, argv: tuple[str, ...], start: int) -> Iterator[int]:
    """Yield where *interpreter*, whose arguments begin at *start*, finds code."""
    given = skip = False
    for index, word in enumerate(argv[start:], start):
        if skip:
            skip = False
        elif word.startswith("-") and word not in {"-", "--"}:
            code, skip = _option(interpreter, word)
            if code:
                given = True
                yield index + skip
        elif word != "--" and interpreter.operand != "other":
            if interpreter.operand == "code" and not given:
                yield index
            return


def _option(interpreter: _Interpreter, word: str) -> tuple[bool, bool]:
    """Return whether an option's argument is code, and whether that is the next word."""
    if word.startswith("--"):
        name, equals, _ = word.partition("=")
        return name in _CODE_OPTIONS, name in _CODE_OPTIONS and not equals
    for position, letter in enumerate(word[1:], 2):
        if letter in interpreter.code + interpreter.values:
            return letter in interpreter.code, position == len(word)
    return False, False
