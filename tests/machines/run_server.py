"""promheal with an action that does what the script says, on a journal at whose commits it dies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from receiver.actions import Action, Actions, Context, Later
from receiver.journal import EVERYTHING, Extent, Journal, Stored, Transaction
from receiver.policy.breaker import MainThresholds, StrategyThresholds, Thresholds
from receiver.policy.decay import Decay
from receiver.policy.proof.judgement import Judgement
from receiver.policy.strategy import OnFailure, Strategies, Strategy, Verify
from receiver.settings import BackoffSettings, EngineSettings
from tests.factories import ScriptedProver, parse_matcher, step, strategy
from tests.machines.run_model import (
    APPROVAL,
    AT_MOST,
    DOUBTFUL,
    GRACE,
    RELAPSE,
    SETTLE,
    STALE,
    WITHIN,
    Killed,
    Wish,
)
from tests.world import World

T = TypeVar("T")

NAMES: Final = ("first", "second")
NEVER: Final = Thresholds(failures=10**9)
OFTEN: Final = StrategyThresholds(failures=10**9, inconclusive=DOUBTFUL)


class Mortal(Journal):
    def __init__(self, real: Journal) -> None:
        self.real = real
        self.commits: int | None = None
        """It dies at so many commits from now; None: it lives."""
        self.after = False

    @property
    def alive(self) -> bool:
        return self.real.alive

    @property
    def trouble(self) -> str:
        return self.real.trouble

    def atomically(self, work: Callable[[Transaction], T], extent: Extent = EVERYTHING) -> T:
        if self.commits is None:
            return self.real.atomically(work, extent)
        self.commits -= 1
        if self.commits:
            return self.real.atomically(work, extent)
        self.commits = None
        if self.after:
            self.real.atomically(work, extent)
        raise Killed

    def read(self, work: Callable[[Transaction], T]) -> T:
        return self.real.read(work)

    def submit(
        self,
        work: Callable[[Transaction], T],
        done: Callable[[Stored[T]], None],
        extent: Extent = EVERYTHING,
    ) -> None:
        self.real.submit(work, done, extent)

    def acquire(self) -> bool:
        return self.real.acquire()

    def close(self) -> None:
        self.real.close()


class Scripted(Action):
    name: ClassVar[str] = "scripted"

    class Params(msgspec.Struct, frozen=True, kw_only=True):
        step: int
        repeatable: bool
        undoable: bool

    def __init__(self, does: Callable[[int, str, str], dict[str, Any] | Later]) -> None:
        self.does = does

    def idempotent(self, params: Params) -> bool:
        return params.repeatable

    def undoable(self, params: Params) -> bool:
        return params.undoable

    def run(self, params: Params, context: Context) -> dict[str, Any] | Later:
        return self.does(context.run_id, "run", f"{context.run_id} run {params.step}")

    def rollback(
        self, params: Params, context: Context, result: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        known = "unknown" if result is None else "known"
        said = f"{context.run_id} undo {params.step} {known}"
        answer = self.does(context.run_id, "rollback", said)
        assert isinstance(answer, dict)
        return answer


class Prometheus(ScriptedProver):
    meanwhile: Callable[[], None]

    def remember(self, seconds: float | None) -> None:
        """Let its rule look back so far."""
        self.alert_decay = self.query_decay = Decay(seconds, scrape=0.0)

    def confirm(self, *args: Any, **values: Any) -> Judgement:
        self.meanwhile()
        return super().confirm(*args, **values)

    def look(self, *args: Any, **values: Any) -> Judgement:
        self.meanwhile()
        return super().look(*args, **values)


class Server(World):
    def __init__(self, journal: Mortal, verifier: Prometheus, now: float, action: Action) -> None:
        super().__init__(journal)
        self.mortal = journal
        self.verifier: Prometheus = verifier
        self.clock.now = now
        self.assemble(Actions([action]))
        self.set(
            engine=EngineSettings(
                stale_after=STALE,
                approval=APPROVAL,
                dormant_after=10**9,
                backoff=BackoffSettings(first=0.0, most=0.0),
                main_breaker=MainThresholds(failures=10**9),
                target_breaker=NEVER,
            )
        )


def configured(wish: Wish) -> Strategies:
    actions = tuple(
        step(
            "scripted",
            params=Scripted.Params(step=n, repeatable=one.repeatable, undoable=one.undoable),
            condition=() if one.applies else (parse_matcher('severity="critical"'),),
        )
        for n, one in enumerate(wish.steps)
    )

    def made(name: str) -> Strategy:
        return strategy(
            name=name,
            actions=actions,
            on_failure=OnFailure.KEEP if wish.keep else OnFailure.ROLLBACK,
            grace_period=GRACE,
            budget=(),
            breaker=OFTEN,
            verify=Verify(within=WITHIN, settle=SETTLE, at_most=AT_MOST, relapse=RELAPSE),
        )

    return Strategies([made(name) for name in NAMES])
