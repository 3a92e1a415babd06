"""Random expressions over two targets: without a series that fed it, nothing is cleared."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

import promql_parser as parser

from bench.public_rules import judging
from bench.public_rules.finding import Case, Tools, find
from bench.public_rules.histories import Fact, History, changed, fed_by, without
from bench.public_rules.reading import PublicRule
from bench.public_rules.series import A, Naming, labelled
from bench.public_rules.server import Filling, version
from bench.public_rules.states import Line, State
from bench.public_rules.tree import Node, Shape, children, is_comparison, operator, shape

DEPTH: Final = 3
MOST_UNKNOWN: Final = 0.05
"""Of what is truly well: chance makes conditions that nobody would write."""
NAMES: Final = Naming({"instance": "a:1", "job": "shop", "service": "shop"}, "instance")
"""The second target is another instance."""
_BLIND: Final = frozenset({"count", "group"})
"""Aggregations that do not look at values."""
_BLIND_CALLS: Final = frozenset(
    {"changes", "count_over_time", "present_over_time", "resets", "timestamp"}
)


class _Grower:
    """Grows expressions whose two kinds of labels meet: of an instance, or of a service."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def condition(self, depth: int, by_instance: bool) -> str:
        roll = self._rng.random() if depth else 0.0
        if roll < 0.45:
            op = self._rng.choice([">", ">", "<", ">=", "<=", "==", "!="])
            left = self.vector(depth, by_instance)
            if self._rng.random() < 0.25 and depth:
                return f"{left} {op} {self.vector(depth - 1, by_instance)}"
            return f"{left} {op} {self._number()}"
        one = self.condition(depth - 1, by_instance)
        if roll < 0.85:
            word = self._rng.choice(["and", "and", "or", "unless"])
            if by_instance and word != "or" and self._rng.random() < 0.4:
                other = self.condition(depth - 1, False)
                return f"({one}) {word} on (service) ({other})"
            return f"({one}) {word} ({self.condition(depth - 1, by_instance)})"
        if by_instance:
            return f"({one}) * 2 > {self._number()}"
        inner = self.condition(depth - 1, True)
        return f"count by (service) ({inner}) > {self._rng.choice([0, 1])}"

    def vector(self, depth: int, by_instance: bool) -> str:  # noqa: PLR0911  a case a form
        if not by_instance:
            op = self._rng.choice(["sum", "avg", "max", "min", "count", "sum"])
            return f"{op} by (service) ({self.vector(max(0, depth - 1), True)})"
        roll = self._rng.random() if depth else 0.0
        if roll < 0.5:
            return self._leaf()
        if roll < 0.8:
            op = self._rng.choice(["+", "-", "*", "/", "/"])
            left, right = self.vector(depth - 1, True), self.vector(depth - 1, True)
            return f"({left}) {op} ({right})"
        if roll < 0.9:
            op = self._rng.choice(["*", "/", "-"])
            inner = self.vector(depth - 1, False)
            return f"({self.vector(depth - 1, True)}) {op} on (service) group_left () ({inner})"
        call = self._rng.choice(["abs", "max_over_time", "min_over_time", "clamp_min"])
        inner = self.vector(depth - 1, True)
        if call == "abs":
            return f"abs({inner})"
        if call == "clamp_min":
            return f"clamp_min({inner}, 0)"
        return f"{call}(({inner})[2m:30s])"

    def _leaf(self) -> str:
        gauge = f"gauge_{self._rng.randrange(4)}"
        counter = f"events_{self._rng.randrange(3)}_total"
        return self._rng.choice(
            [
                gauge, gauge, gauge, f'{gauge}{{service="shop"}}', f"avg_over_time({gauge}[2m])",
                f"max_over_time({gauge}[2m])", f"rate({counter}[2m])", f"rate({counter}[2m])",
                f"increase({counter}[5m])", f"{gauge} offset 1m",
            ]
        )  # fmt: skip

    def _number(self) -> str:
        return self._rng.choice(["0", "0.5", "1", "1", "5", "20"])


def grow(count: int, seed: int) -> list[Case]:
    """Return *count* random expressions as cases, always the same for one *seed*."""
    rng = Random(seed)
    grower = _Grower(rng)
    cases: dict[str, Case] = {}
    while len(cases) < count:
        text = grower.condition(DEPTH, rng.random() < 0.5)
        cases[text] = Case(
            rule=PublicRule(name=f"Tree{len(cases)}", expr=text),
            shape=shape(text),
            targets=2,
            fixed=NAMES,
        )
    return list(cases.values())


def histories(case: Case) -> Iterator[History]:
    """Yield each well state untouched, and with each series that fed the alert removed or NaN."""
    assert case.ill is not None
    own = case.alert.get("instance")
    seeing = {kind.text for kind in case.shape.kinds} - _unseen(case.shape)
    for state in case.wells[:2]:
        yield _history(case, "well", Fact.HEALED, state)
        for kind in fed_by(case):
            for number in range(len(state.get(kind, ()))):
                labels = dict(labelled(kind, NAMES, A, number))
                if own is not None and labels["instance"] != own:
                    continue
                yield _history(case, "removed", Fact.UNTOLD, without(case, state, kind, number))
                if kind.text in seeing:
                    yield _history(
                        case, "NaN", Fact.UNTOLD, changed(case, state, kind, number, Line(math.nan))
                    )


def sweep(count: int, tools: Tools, findings: Path | None) -> list[str]:
    """Ask about *count* random expressions; print the table, return the gates that do not hold."""
    if not count:
        return []
    cases = grow(count, tools.seed)
    find(cases, tools)
    fire = [case for case in cases if case.ill is not None]
    filling = Filling(tools.folder / "trees", tools.promtool)
    slots = judging.fill(((c, h) for c in fire for h in histories(c)), filling)
    failures = []
    with filling.blocks() as blocks:
        for binary in tools.prometheus:
            begin = time.monotonic()
            verdicts = list(judging.judge(slots, blocks, binary, tools))
            sums = judging.sums(verdicts, TITLES, MOST_UNKNOWN)
            print(
                f"\n{version(binary)}: {len(fire)} of {count} random expressions fire,"
                f" {len(slots)} histories, {time.monotonic() - begin:.0f} s"
            )
            print("\n".join(sums.lines))
            failures += [f"{version(binary)}, random expressions: {text}" for text in sums.failures]
            if findings is not None:
                judging.write(judging.notable(verdicts), findings / "trees")
    return failures


TITLES: Final = {
    "well": "well, untouched",
    "removed": "one series that fed it is removed",
    "NaN": "one series that fed it is NaN",
}


def _history(case: Case, name: str, fact: Fact, after: State) -> History:
    return History(name=name, fact=fact, targets={A: (None, case.ill, after)}, look=case.length)


def _unseen(shape_: Shape) -> set[str]:
    """Selectors with a place where their values do not matter."""
    found: set[str] = set()

    def walk(node: Node, blind: bool) -> None:
        if isinstance(node, parser.VectorSelector) and blind:
            found.add(shape_.kind(node).text)
        if isinstance(node, parser.Call):
            blind = blind or node.func.name in _BLIND_CALLS
        blind = (blind or operator(node) in _BLIND) and not is_comparison(node)
        for child in children(node):
            walk(child, blind)

    walk(shape_.root, False)
    return found
