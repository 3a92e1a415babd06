"""Puts the parts together that carry runs, and those by which a person steers them."""

from __future__ import annotations

from collections.abc import Callable

from receiver.actions import Actions
from receiver.clock import Clock
from receiver.config.in_force import Config
from receiver.healing.aftermath import Aftermath
from receiver.healing.control import Control
from receiver.healing.execution import Healing
from receiver.healing.proof import Verification
from receiver.healing.reconciler import Reconciler, WakeAll, WouldHave
from receiver.healing.steps import Steps
from receiver.journal import Journal
from receiver.policy.role import EVERYWHERE, ProcessRole
from receiver.policy.run import Run
from receiver.policy.target import Key
from receiver.reporting.metrics import Metrics


def assemble(
    *,
    journal: Journal,
    actions: Actions,
    metrics: Metrics,
    clock: Clock,
    config: Callable[[], Config],
    wake: Callable[[Key], None],
    wake_all: WakeAll,
    role: ProcessRole = EVERYWHERE,
    ended: Callable[[Run], None] = lambda _: None,
    would_have: WouldHave = lambda *_: None,
    asked: Callable[[], None] = lambda: None,
    make_steps: Callable[..., Steps] = Steps,
) -> tuple[Reconciler, Control]:
    """Return the parts of one process.

    *ended* is called with each run that has ended here, *asked* when a run waits for a person's
    approval, and *would_have* for each alert that a server with --dry-run would have acted on. A
    simulation has steps of its own, by *make_steps*.
    """
    aftermath = Aftermath(
        journal=journal, metrics=metrics, clock=clock, config=config, wake=wake, ended=ended
    )
    steps = make_steps(
        journal=journal, actions=actions, metrics=metrics, clock=clock, config=config
    )
    healing = Healing(
        journal=journal,
        steps=steps,
        proof=Verification(journal=journal, clock=clock, config=config),
        aftermath=aftermath,
        clock=clock,
        role=role,
    )
    reconciler = Reconciler(
        journal=journal,
        healing=healing,
        aftermath=aftermath,
        metrics=metrics,
        clock=clock,
        config=config,
        wake_all=wake_all,
        role=role,
        would_have=would_have,
        asked=asked,
    )
    control = Control(
        journal=journal,
        aftermath=aftermath,
        clock=clock,
        config=config,
        wake=wake,
        resync=reconciler.resync,
    )
    return reconciler, control
