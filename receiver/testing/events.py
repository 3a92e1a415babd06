"""What people and the world do in a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from receiver.errors import RefusedError
from receiver.policy.run import Run, State
from receiver.simulation.upstream import SimulatedSilence
from receiver.simulation.world import VirtualWorld
from receiver.testing.file import (
    PauseInput,
    ResetInput,
    ResumeInput,
    RunInput,
    ScrapeInput,
    SilenceInput,
    WorkerInput,
    WorldEvent,
)

BY: Final = "test"
"""Who it is that pauses, approves and so on."""


def happen(world: VirtualWorld, event: WorldEvent) -> None:
    """Let *event* happen now. Raises RefusedError where promheal would refuse a person."""
    name, value = event.chosen
    if event.during is not None:
        world.stage.kill_in.add(event.during)
    else:
        _HAPPENINGS[name](world, value)


def _pause(world: VirtualWorld, value: PauseInput) -> None:
    control = world.process.control
    control.pause(by=BY, reason=value.reason, scope=value.scope, seconds=value.lasts)


def _resume(world: VirtualWorld, value: ResumeInput) -> None:
    world.process.control.resume(by=BY, reason=value.reason, scope=value.scope)


def _approve(world: VirtualWorld, value: RunInput) -> None:
    world.process.control.approve(_run(world, value).id, by=BY, reason=value.reason)


def _reject(world: VirtualWorld, value: RunInput) -> None:
    world.process.control.reject(_run(world, value).id, by=BY, reason=value.reason)


def _cancel(world: VirtualWorld, value: RunInput) -> None:
    world.process.control.cancel(_run(world, value).id, by=BY, reason=value.reason)


def _reset(world: VirtualWorld, value: ResetInput) -> None:
    world.process.control.reset(value.breaker, by=BY, reason=value.reason, force=value.force)


def _silence(world: VirtualWorld, value: SilenceInput) -> None:
    world.upstream.silences.append(SimulatedSilence(value.matchers, world.clock() + value.lasts))


def _scrape(world: VirtualWorld, value: ScrapeInput) -> None:
    upstream = world.upstream
    upstream.failing = [one for one in upstream.failing if one != value.matchers]
    if not value.up:
        upstream.failing.append(value.matchers)


def _worker(world: VirtualWorld, value: WorkerInput) -> None:
    world.hosts_away.discard(value.host)
    if not value.lives:
        world.hosts_away.add(value.host)


def _prometheus(world: VirtualWorld, value: str) -> None:
    world.upstream.prometheus_down = value == "down"


def _alertmanager(world: VirtualWorld, value: str) -> None:
    world.alertmanager(down=value == "down")


def _restart(world: VirtualWorld, _: str) -> None:
    world.restart()


_HAPPENINGS: Final[dict[str, Callable[[VirtualWorld, Any], None]]] = {
    "pause": _pause,
    "resume": _resume,
    "approve": _approve,
    "reject": _reject,
    "cancel": _cancel,
    "reset": _reset,
    "silence": _silence,
    "scrape": _scrape,
    "worker": _worker,
    "prometheus": _prometheus,
    "alertmanager": _alertmanager,
    "restart": _restart,
}


def _run(world: VirtualWorld, meant: RunInput) -> Run:
    found = world.journal.read(lambda t: t.runs(limit=1_000, strategy=meant.strategy))
    for run in found:
        if meant.target in {None, run.target} and run.state is not State.FINISHED:
            return run
    where = f" on {meant.target}" if meant.target else ""
    raise RefusedError(f"{meant.strategy} has no unfinished run{where}", status=404)
