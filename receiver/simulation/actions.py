"""Actions that touch nothing: they have the real parameters, and become what the script says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import msgspec

from receiver.actions import Action, Actions, Context, Later
from receiver.actions.parameters import Path
from receiver.clock import Clock
from receiver.engine.virtual import Occupied
from receiver.errors import ActionError
from receiver.policy.duration import format_duration
from receiver.process.interpreters import Reading
from receiver.services import Inventory
from receiver.simulation.script import ScriptedAction


class Killed(BaseException):
    """Raised through everything of a process, which is gone."""


class ActionCall(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of an action, or of its undoing."""

    at: float
    """When it began, seconds since the epoch."""
    action: str
    params: Mapping[str, Any]
    """Those that differ from their defaults, in the order of the action's documentation."""
    undo: bool
    strategy: str
    target: str
    run: int

    @property
    def text(self) -> str:
        """`restart_service service=checkout`"""
        words = [f"{name}={_word(value)}" for name, value in self.params.items()]
        return " ".join(["undo"] * self.undo + [self.action, *words])


class Stage:
    """What all simulated actions share, over the lives of all processes: the script, the calls."""

    def __init__(
        self,
        script: Iterable[ScriptedAction],
        clock: Clock,
        done: Callable[[ActionCall, Context], None],
    ) -> None:
        """*done* is called with each execution that has succeeded."""
        self._script = sorted(script, key=lambda one: (one.nth is None, one.target is None))
        self.clock = clock
        self.done = done
        self.calls: list[ActionCall] = []
        self.kill_in: set[str] = set()
        """Actions of which the next one is interrupted by kill -9."""
        self._counts: Counter[tuple[str, str | None]] = Counter()

    def begin(self, call: ActionCall) -> ScriptedAction:
        """Note an execution, and return what becomes of it."""
        self.calls.append(call)
        if not call.undo:
            self._counts[call.action, None] += 1
            self._counts[call.action, call.target] += 1
        if call.action in self.kill_in and not call.undo:
            self.kill_in.discard(call.action)
            raise Killed
        return self.fate(call)

    def fate(self, call: ActionCall) -> ScriptedAction:
        for one in self._script:
            fits = one.action == call.action and one.target in {None, call.target}
            if fits and one.nth in {None, self._counts[one.action, one.target]}:
                return one
        return ScriptedAction(action=call.action)


class SimulatedAction(Action):
    """Stands in for *real*, in one life of a process."""

    def __init__(self, real: Action, stage: Stage) -> None:
        self._real = real
        self._stage = stage
        self._in_hand: dict[tuple[int, int], tuple[float, ScriptedAction, ActionCall]] = {}
        # The class variables of an action, from the one that it stands for.
        for name in ("name", "Params", "timeout", "heals"):
            setattr(self, name, getattr(real, name))

    def idempotent(self, params: Any) -> bool:
        return self._real.idempotent(params)

    def problems(self, params: Any, inventory: Inventory) -> Iterable[str]:
        return self._real.problems(params, inventory)

    def readings(self, params: Any) -> Iterable[tuple[Path, Reading]]:
        return self._real.readings(params)

    def undoable(self, params: Any) -> bool:
        return self._real.undoable(params)

    def in_hand(self, run: int) -> bool:
        """Whether a step of *run* is under way, and is called again when its time is over."""
        return any(begun == run for begun, _ in self._in_hand)

    def run(self, params: Any, context: Context) -> dict[str, Any] | Later:
        """Return or raise what the script says; raises Occupied while it takes its time."""
        begun = self._in_hand.pop((context.run_id, context.step), None)
        if begun is None:
            found = self._real.rehearse(params, context)
            if isinstance(found, Later) or found:  # it needs nothing of the world
                return found
            call = self._call(params, context, undo=False)
            fate = self._stage.begin(call)
            until = context.started_at + min(fate.takes, context.timeout)
            if fate.takes and until > self._stage.clock():
                self._in_hand[context.run_id, context.step] = until, fate, call
                raise Occupied(until)
        else:
            _, fate, call = begun
        if fate.takes > context.timeout:
            raise ActionError(f"did not end within {format_duration(context.timeout)}")
        if fate.fails:
            raise ActionError(fate.fails)
        if fate.skips:
            return {"skipped": fate.skips}
        self._stage.done(call, context)
        return {"simulated": True}

    def rollback(
        self,
        params: Any,
        context: Context,
        result: Mapping[str, Any] | None,  # noqa: ARG002
    ) -> dict[str, Any]:
        fate = self._stage.begin(self._call(params, context, undo=True))
        if fate.undo_fails:
            raise ActionError(fate.undo_fails)
        return {"simulated": True}

    def _call(self, params: msgspec.Struct, context: Context, *, undo: bool) -> ActionCall:
        return ActionCall(
            at=self._stage.clock(),
            action=self.name,
            params=_chosen(params),
            undo=undo,
            strategy=context.strategy,
            target=context.target,
            run=context.run_id,
        )


class SimulatedActions(Actions):
    """The *real* ones by their names, each simulated."""

    def __init__(self, real: Actions, stage: Stage) -> None:
        self._simulated = [SimulatedAction(real.get(name), stage) for name in real.names]
        super().__init__(self._simulated)

    def in_hand(self, run: int) -> bool:
        return any(action.in_hand(run) for action in self._simulated)


_fields = cache(msgspec.structs.fields)


def _chosen(params: msgspec.Struct) -> dict[str, Any]:
    values = msgspec.to_builtins(params)
    return {
        field.encode_name: values[field.encode_name]
        for field in _fields(type(params))
        if getattr(params, field.name) != field.default and field.encode_name in values
    }


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if text and not set(text) & set(" \t\n\"'") else msgspec.json.encode(text).decode()
