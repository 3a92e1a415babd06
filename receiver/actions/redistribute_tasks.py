"""`redistribute_tasks`: what dead workers hold goes back to those who wait."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from receiver.actions import Action, Context, lacking
from receiver.errors import ActionError
from receiver.services import Inventory
from receiver.template import NameText


class RedistributeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    service: NameText
    """A name in `services.yml`, as a rule from a label."""


class RedistributeTasks(Action):
    """Its `queue` says where tasks wait and who is dead; a label only chooses the service.

    It may be repeated, and goes on where it was cut short. There is nothing to undo.
    """

    name = "redistribute_tasks"
    Params = RedistributeParams

    def idempotent(self, params: RedistributeParams) -> bool:  # noqa: ARG002
        return True

    def problems(self, params: RedistributeParams, inventory: Inventory) -> Iterable[str]:
        yield from lacking("queue", params.service, inventory)

    def run(self, params: RedistributeParams, context: Context) -> dict[str, Any]:
        service = context.inventory.get(params.service)
        if service.queue is None:
            raise ActionError(
                f"{service.name!r} has no `queue` in services.yml, nothing was touched"
            )
        began = time.monotonic()
        moved = service.queue.redistribute(timeout=context.timeout)
        seconds = round(time.monotonic() - began, 3)
        return {"service": service.name, **moved, "seconds": seconds}
