"""Makes rules fire, and finds the states in which they are well: Prometheus is the judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import msgspec

from bench.public_rules.reading import PublicRule
from bench.public_rules.series import Naming, naming, samples, text
from bench.public_rules.server import CLIENTS, Asker, Filling, serving
from bench.public_rules.solving import guess
from bench.public_rules.states import State, covers, widened
from bench.public_rules.tree import Shape
from bench.public_rules.truth import Is, Question, Truth

WELLS: Final = 4
"""States of health that are enough for a rule."""
ROUNDS: Final = ((2, 2, 3), (4, 3, 3), (6, 4, 4), (10, 5, 5))
"""For each round how many namings of labels, and guesses at ill and at well states of each."""

T = TypeVar("T")
R = TypeVar("R")


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep needs of the machine."""

    prometheus: tuple[str, ...]
    """Binaries; the first one also judges which states a rule fires in."""
    promtool: str
    folder: Path
    seed: int
    progress: Callable[[str, int, int], None]


class Case(msgspec.Struct, kw_only=True, dict=True):
    """A rule, and the states of its series that were found."""

    rule: PublicRule
    shape: Shape
    targets: int = 1
    """Series of each kind, at least."""
    fixed: Naming | None = None
    """None: labels are made up."""
    names: Naming | None = None
    """Of the states."""
    alert: dict[str, str] = {}
    """Labels that the expression returned while it was ill."""
    ill: State | None = None
    wells: list[State] = []
    ended: State | None = None
    """Nothing is returned, though the condition holds."""
    error: str = ""
    """What Prometheus said last, when it could not evaluate."""

    @cached_property
    def question(self) -> Question:
        return Question(self.shape)

    @property
    def settled(self) -> bool:
        """Whether its labels are chosen: it fires with them, and can be well."""
        return self.ill is not None and bool(self.wells)

    @property
    def length(self) -> float:
        """Seconds of a phase: what is older has no say at its end."""
        return max(600.0, 1.25 * self.shape.reach + 120.0)


class _Attempt(msgspec.Struct, frozen=True):
    case: Case
    names: Naming
    state: State
    at: float


def find(cases: Sequence[Case], tools: Tools) -> None:
    """Fill in the states of *cases*, in rounds: those that lack any are tried again, and harder."""
    for number, (namings, ills, wells) in enumerate(ROUNDS):
        lacking = [c for c in cases if not c.settled or len(c.wells) < WELLS]
        if not lacking:
            return
        filling = Filling(tools.folder / f"finding{number}", tools.promtool)
        attempts: list[_Attempt] = []
        for case in lacking:
            rng = Random(f"{tools.seed} {number} {case.rule.expr}")
            settled = [case.names] * namings if case.settled and case.names else []
            new = [case.fixed or naming(case.shape, rng) for _ in range(namings)]
            for names in settled or new:
                for guessed in range(wells if settled else ills + wells):
                    holds = not settled and guessed < ills
                    state = guess(case.shape, holds=holds, rng=rng, targets=case.targets)
                    if settled and case.ill is not None:
                        state = widened(state, case.ill)
                    attempts.append(_put(filling, case, names, state))
        with (
            filling.blocks() as blocks,
            serving(tools.prometheus[0], blocks) as url,
            Asker(url) as asker,
        ):
            what = f"finding states {number + 1}/{len(ROUNDS)}"
            answers = asked(attempts, partial(_ask, asker), tools, what)
            told: dict[int, list[tuple[_Attempt, Truth]]] = {}
            for attempt, truth in zip(attempts, answers, strict=True):
                told.setdefault(id(attempt.case), []).append((attempt, truth))
        for case in lacking:
            _choose(case, told[id(case)])


def _ask(asker: Asker, attempt: _Attempt) -> Truth:
    return attempt.case.question.ask(asker, attempt.at)


def _put(filling: Filling, case: Case, names: Naming, state: State) -> _Attempt:
    length = case.length
    action = filling.room(length + case.shape.reach, 60.0)
    rows = samples(case.shape, names, {0: (None, state, None)}, action=action, length=length)
    filling.add(text(rows))
    return _Attempt(case, names, state, action)


def _choose(case: Case, tried: Sequence[tuple[_Attempt, Truth]]) -> None:
    """Take the naming with an ill state that has the most well ones."""
    by_names: dict[int, list[tuple[_Attempt, Truth]]] = {}
    for attempt, truth in tried:
        by_names.setdefault(id(attempt.names), []).append((attempt, truth))
        case.error = truth.error or case.error
    if case.settled:
        _gather(case, tried)
        return
    able = [group for group in by_names.values() if any(truth.fires for _, truth in group)]
    best = max(able, key=lambda group: sum(truth.well for _, truth in group), default=[])
    if best and (case.ill is None or any(truth.well for _, truth in best)):
        # With few series it is least likely that some end by being well.
        attempt, truth = min(
            ((a, t) for a, t in best if t.fires),
            key=lambda one: sum(map(len, one[0].state.values())),
        )
        case.ill, case.names, case.alert = attempt.state, attempt.names, truth.returned[0]
        _gather(case, best)


def _gather(case: Case, tried: Iterable[tuple[_Attempt, Truth]]) -> None:
    for attempt, truth in tried:
        if case.ill is None or not covers(attempt.state, case.ill):
            continue  # it would be well since something ended
        # Of several, another one may outrank it, or be what the condition holds for.
        alone = all(len(lines) == 1 for lines in attempt.state.values())
        if truth.well and attempt.state not in case.wells and (alone or not case.shape.picks):
            case.wells.append(attempt.state)
        if not truth.fires and truth.why is Is.ENDED and not truth.error and alone:
            case.ended = case.ended or attempt.state
    del case.wells[WELLS:]


def asked(items: Sequence[T], ask: Callable[[T], R], tools: Tools, what: str) -> Iterator[R]:
    """Yield *ask* of each of *items*, in order, of a few at a time."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        for number, answer in enumerate(pool.map(ask, items), 1):
            tools.progress(what, number, len(items))
            yield answer
