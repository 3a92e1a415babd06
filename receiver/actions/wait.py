"""`wait`: let time pass between two steps, on a durable timer."""

from __future__ import annotations

from typing import Any

import msgspec

from receiver.actions import Action, Context, Later
from receiver.policy.duration import Duration


class WaitParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    duration: Duration
    """Counted from the start of the step; a wait that was interrupted is not begun again. The
    step's `timeout` does not bound it."""


class Wait(Action):
    """Holds no thread meanwhile, and goes on after a restart of the receiver.

    It counts from the start of the step, so a wait that was interrupted is not begun again.
    """

    name = "wait"
    Params = WaitParams
    heals = False

    def idempotent(self, params: WaitParams) -> bool:  # noqa: ARG002
        return True

    def rehearse(self, params: WaitParams, context: Context) -> dict[str, Any] | Later:
        until = context.started_at + params.duration
        if context.now < until:
            return Later(until)
        return {"waited": params.duration}

    def run(self, params: WaitParams, context: Context) -> dict[str, Any] | Later:
        return self.rehearse(params, context)
