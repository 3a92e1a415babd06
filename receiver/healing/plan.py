"""What would be done? A run's plan, with every template rendered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from receiver.actions.parameters import render_params
from receiver.errors import ActionError
from receiver.healing.asked import Also, Asked, Case, about, target_labels, variables
from receiver.policy.role import UNBOUND
from receiver.policy.run import Asker, Plan, PlannedStep
from receiver.policy.strategy import OnFailure, Strategy, condition_holds
from receiver.services import Inventory
from receiver.settings import UndeclaredValues


class Planned(msgspec.Struct, frozen=True):
    """What would be done, or why it cannot be said."""

    plan: Plan | None = None
    fault: str = ""

    @property
    def runs_on(self) -> str:
        return UNBOUND if self.plan is None else self.plan.runs_on


def plan_or_fault(case: Case, asked: Asked) -> Planned:
    """Return what would be done about the alert that was asked about; nothing without one."""
    if asked.episode is None:
        return Planned()
    undeclared = case.config.settings.undeclared_values is UndeclaredValues.WARN
    try:
        return Planned(
            plan_for(
                case.strategy,
                case.target,
                asked,
                inventory=case.config.inventory,
                undeclared=undeclared,
            )
        )
    except ActionError as error:
        return Planned(fault=str(error))


def plan_for(
    strategy: Strategy,
    target: str,
    asked: Asked,
    *,
    inventory: Inventory,
    undeclared: bool = False,
) -> Plan:
    """Render everything now: a run under way does not see a reload.

    *asked* has the alert. *undeclared*: values that the strategy does not declare may stand in
    arguments. Raises ActionError when a template cannot be rendered, a value is not what it may be,
    or it is not clear where it is to run.
    """
    assert asked.episode is not None
    alert, verify, binding = asked.episode.alert, strategy.verify, asked.binding
    names = variables(strategy, target, asked.episode, asked.value, asked.expression)
    steps = []
    for spec in strategy.actions:
        skip = ""
        params: dict[str, Any] = {}
        if condition_holds(spec.condition, alert.labels):
            rendered = render_params(spec.params, names, strategy.values, undeclared=undeclared)
            params = msgspec.to_builtins(rendered)
        else:
            skip = "if: " + ", ".join(str(matcher) for matcher in spec.condition)
        steps.append(
            PlannedStep(action=spec.action, params=params, timeout=spec.timeout, skip=skip)
        )
    if asked.query_fault:
        raise ActionError(asked.query_fault)
    assert verify.query is None or asked.query is not None, "it would prove nothing"
    return Plan(
        steps=tuple(steps),
        rollback=strategy.on_failure is OnFailure.ROLLBACK,
        verify_within=verify.within,
        verify_query=asked.query,
        verify_expect=verify.expect,
        binding=None if binding is None else msgspec.to_builtins(binding),
        verify_gone=verify.gone,
        verify_settle=verify.settle,
        verify_at_most=verify.at_most,
        verify_hold=verify.hold,
        decay=asked.decay.seconds,
        decay_problem=asked.decay.problem,
        scrape=asked.decay.scrape,
        alert_decay=asked.alert_decay.seconds,
        alert=about(alert, asked.expression),
        also=tuple(map(_asker, asked.also)),
        unproven=asked.unproven,
        target_labels=target_labels(strategy, alert.labels),
        value=asked.value,
        runs_on=_runs_on(steps, alert.labels, inventory),
    )


def _asker(also: Also) -> Asker:
    return Asker(
        fingerprint=also.episode.alert.fingerprint,
        labels=also.episode.alert.labels,
        binding=None if also.binding is None else msgspec.to_builtins(also.binding),
        verify_query=also.query,
    )


def _runs_on(steps: Iterable[PlannedStep], labels: Mapping[str, str], inventory: Inventory) -> str:
    """Return the one place in which all services of a run are to be touched."""
    places = {}
    for step in steps:
        name = step.params.get("service")
        if not step.skip and isinstance(name, str) and name in inventory.names:
            place = inventory.get(name).place(labels)
            if place != UNBOUND:
                places[place] = name
    if len(places) > 1:
        where = ", ".join(f"{name} on {place}" for place, name in places.items())
        raise ActionError(f"its services are in several places ({where}); one run has one place")
    return next(iter(places), UNBOUND)
