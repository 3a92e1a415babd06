"""How much damage of a journal's file is found at the start? `make damage`: of 100 copies each.

A copy of a journal is damaged at a random place: a page, 16 bytes, a byte, a bit. Beside what
promheal asks, `integrity_check`, stands what takes less time, `quick_check`.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

from bench.load import show
from receiver.errors import JournalError
from receiver.journal import Admission, Transaction, Want, open_journal
from receiver.journal.marker import marker_path
from receiver.journal.sqlite_file import check, connect
from receiver.policy.run import Observation, Outcome, Phase, State, Step, StepState
from receiver.policy.target import Key
from tests.factories import NOW, alert

PAGE: Final = 4096
KINDS: Final[dict[str, Callable[[bytearray, random.Random], None]]] = {}


def _kind(name: str) -> Callable[[Callable[[bytearray, random.Random], None]], None]:
    def keep(function: Callable[[bytearray, random.Random], None]) -> None:
        KINDS[name] = function

    return keep


@_kind("page")
def _page(content: bytearray, dice: random.Random) -> None:
    _overwrite(content, dice, dice.randrange(1, len(content) // PAGE) * PAGE, PAGE)


@_kind("16 bytes")
def _bytes(content: bytearray, dice: random.Random) -> None:
    _overwrite(content, dice, dice.randrange(len(content) - 16), 16)


@_kind("1 byte")
def _byte(content: bytearray, dice: random.Random) -> None:
    _overwrite(content, dice, dice.randrange(len(content)), 1)


@_kind("1 bit")
def _bit(content: bytearray, dice: random.Random) -> None:
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def _overwrite(content: bytearray, dice: random.Random, at: int, size: int) -> None:
    before = content[at : at + size]
    while content[at : at + size] == before:
        content[at : at + size] = dice.randbytes(size)


class Found(NamedTuple):
    """Of how many damaged copies it was found."""

    copies: int
    by_promheal: int
    by_quick_check: int


def sweep(path: Path, copies: int) -> Iterator[tuple[str, Found]]:
    """Damage copies of a closed journal, and see what its check finds."""
    whole, copy = path.read_bytes(), path.with_name("copy.db")
    for name, damage in KINDS.items():
        dice = random.Random(f"{name} {len(whole)}")
        promheal = quick = 0
        for _ in range(copies):
            content = bytearray(whole)
            damage(content, dice)
            copy.write_bytes(content)
            marker_path(copy).unlink(missing_ok=True)
            promheal += not _is_taken(copy)
            copy.write_bytes(content)
            quick += not _passes_quick_check(copy)
        yield name, Found(copies, promheal, quick)


def _is_taken(path: Path) -> bool:
    try:
        open_journal(f"sqlite:///{path}").close()
    except JournalError:
        return False
    return True


def _passes_quick_check(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as connection:
            return bool(connection.execute("pragma quick_check(1)").fetchone()[0] == "ok")
    except (sqlite3.DatabaseError, UnicodeDecodeError):  # even what SQLite says of it
        return False


@contextmanager
def journal(runs: int) -> Iterator[Path]:
    """A journal of so many alerts and runs, with what belongs to them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        with closing(open_journal(f"sqlite:///{path}")) as opened:
            for start in range(0, runs, 500):
                numbers = range(start, min(runs, start + 500))
                opened.atomically(lambda t, numbers=numbers: _fill(t, numbers))  # type: ignore[misc]
        yield path


def _fill(transaction: Transaction, numbers: range) -> None:
    for number in numbers:
        key = Key("latency", f'service="shop-{number}"')
        one = alert(labels={"alertname": "HighLatency", "service": f"shop-{number}"})
        transaction.admit(
            Admission([one]), [Want(*key, one.fingerprint)], sender="am", now=NOW + number
        )
        episode = transaction.wanted(key)
        assert episode is not None
        run = transaction.open_run(key, State.ACTING, episode=episode, now=NOW + number)
        for index in range(3):
            transaction.put_step(
                run.id,
                Step(
                    index=index, phase=Phase.RUN, action="command", state=StepState.DONE,
                    started_at=NOW, finished_at=NOW + 1, result={"output": f"line {number}\n" * 9},
                ),
            )  # fmt: skip
        for look in range(4):
            transaction.put_observation(
                run.id,
                Observation(at=NOW + look, verdict="firing", value=0.9, detail="still 0.9 > 0.8"),
            )
        transaction.finish(run, Outcome.HEALED, "", now=NOW + number + 60)


def _seconds(path: Path, ask: Callable[[sqlite3.Connection], object]) -> float:
    times = []
    for _ in range(3):
        with closing(connect(path)) as connection:
            start = perf_counter()
            ask(connection)
            times.append(perf_counter() - start)
    return sorted(times)[1]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=100, help="of each kind")
    parser.add_argument("--runs", type=int, default=500, help="in the journal that is damaged")
    parser.add_argument("--large", type=int, default=50_000, help="runs in the one that is timed")
    options = parser.parse_args(arguments)
    with journal(options.runs) as path:
        size = path.stat().st_size
        rows = [
            {"damage": name, "copies": found.copies, "found": found.by_promheal,
             "quick_check": found.by_quick_check}
            for name, found in sweep(path, options.copies)
        ]  # fmt: skip
    show(f"Damage that is found in {size:,} bytes", rows)
    with journal(options.large) as path:
        whole = _seconds(path, lambda connection: check(connection, path))
        quick = _seconds(path, lambda c: c.execute("pragma quick_check(1)").fetchone())
        row = {"MiB": path.stat().st_size >> 20, "promheal_s": f"{whole:.2f}",
               "quick_check_s": f"{quick:.2f}"}  # fmt: skip
    show("How long it takes to read all of it, median of 3", [row])
