"""Which arguments does a program read as code, or as the name of another program?

There only a value that the strategy lists may stand, not one that matches a pattern: `reboot` is a
word like any other. This knows the shells and what else is common, and cannot know all; what it
does not know is bounded by the pattern (value_pattern.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from receiver.template import is_template


class Reading(NamedTuple):
    """How an argument is read."""

    position: int
    reader: str
    """The program that reads it so."""
    what: Literal["code", "program"]


def readings(argv: tuple[str, ...]) -> list[Reading]:
    """Return how the arguments with a template in them are read, where that is known."""
    found = {reading.position: reading for reading in _programs(argv)}
    found |= {index: Reading(index, name, "code") for index, name in sorted(_code(argv))}
    return [
        found[index] for index in sorted(found) if index < len(argv) and is_template(argv[index])
    ]


# ── those that read code ──


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


# ── those that run another program ──

_RUNNERS: Final = {
    **dict.fromkeys(("busybox", "dumb-init", "nohup", "prlimit", "setsid"), (_Interpreter(""), 0)),
    **dict.fromkeys(("chroot", "gosu", "su-exec", "taskset"), (_Interpreter(""), 1)),
    "chrt": (_Interpreter("", "TPD"), 1),
    "doas": (_Interpreter("", "Cu"), 0),
    "env": (_Interpreter("S", "uC"), 0),
    "flock": (_Interpreter("c", "wE"), 1),
    "ionice": (_Interpreter("", "cn"), 0),
    "ltrace": (_Interpreter("", "aeFlnopsuw"), 0),
    "nice": (_Interpreter("", "n"), 0),
    "nsenter": (_Interpreter("", "tSG"), 0),
    "stdbuf": (_Interpreter("", "ioe"), 0),
    "strace": (_Interpreter("", "abEeIoOPpSsuUX"), 0),
    "sudo": (_Interpreter("", "CDghpRrTtUu"), 0),
    "systemd-run": (_Interpreter("", "EHMpu"), 0),
    "time": (_Interpreter("", "fo"), 0),
    "timeout": (_Interpreter("", "ks"), 1),
    "unshare": (_Interpreter("", "RSG"), 0),
    "xargs": (_Interpreter("", "adEILnPs"), 0),
}
"""The options of each, of which those with code have a line for a shell; and how many operands
stand before the program."""
_EXEC: Final = frozenset({"-exec", "-execdir", "-ok", "-okdir"})
"""After them find(1) and its like have a program."""


def _programs(argv: tuple[str, ...]) -> Iterator[Reading]:
    yield from _run_by(argv, 0)
    for index, word in enumerate(argv[:-1]):
        if word in _EXEC:
            yield Reading(index + 1, argv[0], "program")
            yield from _run_by(argv, index + 1)


def _run_by(argv: tuple[str, ...], start: int) -> Iterator[Reading]:
    """Yield what the program at *start* runs, and what that runs, as far as it is a runner."""
    name = argv[start].rpartition("/")[2]
    if name not in _RUNNERS:
        return
    options, before = _RUNNERS[name]
    skip = False
    for index, word in enumerate(argv[start + 1 :], start + 1):
        if skip:
            skip = False
        elif word.startswith("-") and len(word) > 1:
            runs, skip = (False, False) if word == "--" else _option(options, word)
            if runs:
                yield Reading(index + skip, name, "program")
        elif before and not is_template(word):
            before -= 1
        elif name != "env" or "=" not in word.partition("{{")[0]:
            yield Reading(index, name, "program")
            if not is_template(word):
                yield from _run_by(argv, index)
                return
