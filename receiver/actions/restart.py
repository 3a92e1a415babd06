"""`restart_service` and `restart_if_critical`: a service of the inventory, through its manager."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from receiver.actions import Action, Context, unknown_service
from receiver.clients.http_exchange import exchange
from receiver.errors import ActionError
from receiver.services import Health, Inventory
from receiver.template import NameText

_POLL_FIRST: Final = 0.1  # seconds between two questions for its health
_POLL_MAX: Final = 1.0  # seconds
_MAX_DETAIL: Final = 2_000  # characters


class RestartParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    service: NameText
    """A name in `services.yml`, as a rule from a label."""


class RestartService(Action):
    """Done when the manager says *running* and, where given, the health URL answers 2xx.

    It may be repeated: a restart that was cut short may have left the service stopped, and only
    another one makes it whole. There is nothing to undo.
    """

    name = "restart_service"
    Params = RestartParams
    timeout = 120.0

    def idempotent(self, params: RestartParams) -> bool:  # noqa: ARG002
        return True

    def problems(self, params: RestartParams, inventory: Inventory) -> Iterable[str]:
        yield from unknown_service(params.service, inventory)

    def run(self, params: RestartParams, context: Context) -> dict[str, Any]:
        service = context.inventory.get(params.service)
        began = time.monotonic()
        status = service.manager.restart(timeout=context.timeout)
        health = None
        if service.health is not None:
            health = _wait_healthy(service.name, service.health, began + context.timeout)
        return {
            "service": service.name,
            "state": status.state.value,
            "detail": status.detail[:_MAX_DETAIL],
            "pid": status.pid,
            "seconds": round(time.monotonic() - began, 3),
            "health": health,
        }


class RestartIfCritical(RestartService):
    """The same for alerts with severity="critical": for others it does nothing, and succeeds."""

    name = "restart_if_critical"

    def rehearse(self, params: RestartParams, context: Context) -> dict[str, Any]:  # noqa: ARG002
        severity = context.alert.get("labels", {}).get("severity", "")
        if severity != "critical":
            return {"skipped": f"severity is {severity[:100]!r}, not 'critical'"}
        return {}

    def run(self, params: RestartParams, context: Context) -> dict[str, Any]:
        return self.rehearse(params, context) or super().run(params, context)


def _wait_healthy(name: str, health: Health, deadline: float) -> dict[str, Any]:
    """Ask until the answer is 2xx, and return it. Raises ActionError after *deadline*."""
    pause = _POLL_FIRST
    asked = 0
    last = "no time was left to ask"
    output = ""
    while (left := deadline - time.monotonic()) > 0:
        asked += 1
        try:
            answer = exchange("GET", health.url, timeout=min(left, health.timeout))
        except ActionError as error:
            # A question that the deadline cut short tells less than the answer before it.
            if asked == 1 or left >= health.timeout:
                last, output = str(error), ""
        else:
            if 200 <= answer.status < 300:
                return {"status": answer.status, "asked": asked}
            last, output = f"GET {health.url} answered {answer.words}", answer.body
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(pause * 2, _POLL_MAX)
    raise ActionError(
        f"{name!r} was restarted and runs, but is not healthy in time ({asked} questions): {last}",
        output=output,
    )
