"""Is every rule by which promheal decides held by a test that fails without it?

mutmut changes the functions of the guards, the breaker, `decide` and dormancy, one place at a time,
in a copy. What it cannot reach, the two tables that are policy, is changed here, in the memory of
a child: a guard removed, one that always allows, two that change places, a move of the breaker
removed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("receiver", "tests", "pyproject.toml")
LEAST = 85.0
LIVES = {"survived", "no tests", "not checked"}
GUARDS = "tests/test_guards.py"
BREAKER = "tests/test_breaker.py"

Mutant = tuple[str, Callable[[], None]]
"""What is changed, and how."""


# -- functions, by mutmut


def functions(folder: Path) -> tuple[dict[str, Counter[bool]], list[str]]:
    """Return how many mutants of each file were killed (True) and lived, and what lived."""
    mutmut = Path(sys.executable).with_name("mutmut")

    def told(*command: str) -> str:
        ran = subprocess.run(
            [mutmut, *command], cwd=folder, capture_output=True, text=True, check=False
        )
        if ran.returncode:
            sys.exit(f"mutmut {command[0]} failed:\n{ran.stdout[-4000:]}{ran.stderr[-4000:]}")
        return ran.stdout

    told("run", "--max-children", "1")
    found: dict[str, Counter[bool]] = {}
    lived = []
    results = told("results", "--all", "true")
    for name, state in re.findall(r"^\s*(\S+): (.+)$", results, re.MULTILINE):
        module = re.sub(r"\.x[_ǁ].*", "", name)
        file = module.replace(".", "/") + ".py"
        found.setdefault(file, Counter())[state not in LIVES] += 1
        if state in LIVES:
            lived.append(told("show", name).rstrip())
    return found, lived


# -- tables, here


def guard_mutants(*, order: bool) -> Iterator[Mutant]:
    from receiver.policy import decide  # noqa: PLC0415  only a child may have it already
    from receiver.policy.guards.situation import ALLOW  # noqa: PLC0415

    real = decide.GUARDS

    def be(*guards: tuple[str, decide.Guard]) -> Callable[[], None]:
        return lambda: setattr(decide, "GUARDS", guards)

    for at, one in enumerate(real):
        before, behind = real[:at], real[at + 1 :]
        yield f"{one[0]} is removed", be(*before, *behind)
        yield f"{one[0]} always allows", be(*before, (one[0], lambda _: ALLOW), *behind)
        if order and behind:
            yield f"{one[0]} after {behind[0][0]}", be(*before, behind[0], one, *behind[1:])


def move_mutants() -> Iterator[Mutant]:
    from receiver.policy import breaker  # noqa: PLC0415

    for state, event in breaker.MOVES:
        cell = (state, event)
        yield f"{state} · {event} is removed", lambda cell=cell: breaker.MOVES.pop(cell)  # type: ignore[misc]


def survives(change: Callable[[], None], tests: str) -> bool:
    """Whether *tests* pass all the same, in a child of ours."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they cost a second each time
    child = os.fork()
    if not child:
        code = 70
        try:
            change()
            with contextlib.redirect_stdout(io.StringIO()):
                import pytest  # noqa: PLC0415

                code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", tests]))
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in {0, 1}:
        sys.exit(f"{tests} can not be run: exit code {code}")
    return code == 0


def tables(*, order: bool) -> tuple[Counter[bool], list[str]]:
    """As `functions`, for the tables. Imports receiver from the working directory."""
    for warm in ("pytest", "msgspec", "receiver.app", "receiver.reporting.metrics"):
        importlib.import_module(warm)  # once, and not by each child
    mutants: list[tuple[Mutant, str]] = [(one, GUARDS) for one in guard_mutants(order=order)]
    if order:
        mutants += [(one, BREAKER) for one in move_mutants()]
    if survives(lambda: None, GUARDS) is False or survives(lambda: None, BREAKER) is False:
        sys.exit("the tests fail before anything is changed")
    lived = []
    for (what, change), tests in mutants:
        if survives(change, tests):
            lived.append(f"survived: {what}")
        elif not order:
            print(f"killed: {what}")
    return Counter({True: len(mutants) - len(lived), False: len(lived)}), lived


# -- all of it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--least", type=float, default=LEAST, help="percent that must be killed")
    parser.add_argument("--guards", action="store_true", help="only each guard of GUARDS, in place")
    given = parser.parse_args()
    if given.guards:
        _, lived = tables(order=False)
        if lived:
            sys.exit("\n".join(lived))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in COPIED:
            copy: Callable[..., Any] = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
            copy(ROOT / part, folder / part)
        found, lived = functions(folder)
        found["tables"], more = tables(order=True)
    total: Counter[bool] = sum(found.values(), Counter())
    for file, counts in [*sorted(found.items()), ("total", total)]:
        share = 100 * counts[True] / counts.total()
        print(f"{file:36} {counts[True]:4} killed {counts[False]:4} survived {share:6.1f} %")
    print(*lived, *more, sep="\n\n")
    if 100 * total[True] < given.least * total.total():
        sys.exit(f"less than {given.least:g} % were killed")


if __name__ == "__main__":
    main()
