"""`notify`: tell people, over a channel of `promheal.yml`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from receiver.actions import Action, Context
from receiver.clients import channels
from receiver.errors import ActionError
from receiver.services import Inventory
from receiver.template import NameText, ProseText

_log: Final = logging.getLogger("promheal.action")


class NotifyParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    channel: NameText
    """One of `notify.channels` in `promheal.yml`. No template."""
    message: ProseText
    """Plain text, cut off at 4,000 characters."""
    title: ProseText = "{{ strategy }}: {{ target }}"
    """One line, cut off at 250 characters."""
    must_arrive: bool = False
    """Whether the run fails, and what it did is undone, when the message cannot be sent. By default
    that is a warning in the log, and `sent: false` in the run."""


class Notify(Action):
    """Sends a message; what was taken may be sent once more after a crash."""

    name = "notify"
    Params = NotifyParams
    timeout = 30.0
    heals = False

    def idempotent(self, params: NotifyParams) -> bool:  # noqa: ARG002  better twice than never
        return True

    def problems(self, params: NotifyParams, inventory: Inventory) -> Iterable[str]:
        # A label cannot choose it either: a template is the name of no channel.
        if params.channel not in inventory.channels:
            known = ", ".join(inventory.channels) or "none"
            yield f"channel: `notify.channels` has no {params.channel!r}; known: {known}"

    def run(self, params: NotifyParams, context: Context) -> dict[str, Any]:
        if context.channels is None:
            raise ActionError("there are no `notify.channels` in promheal.yml")
        told = {"channel": params.channel, "title": params.title[: channels.MAX_TITLE]}
        try:
            context.channels.send(
                params.channel, params.title, params.message, timeout=context.timeout
            )
        except ActionError as error:
            if params.must_arrive:
                raise
            _log.warning("a message was not sent: %s", error, extra={"run": context.run_id})
            return {**told, "sent": False, "problem": str(error)}
        return {**told, "sent": True}
