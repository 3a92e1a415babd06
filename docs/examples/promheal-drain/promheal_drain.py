"""Drain a service: its load balancer sends nothing while DIRECTORY/NAME.drain exists."""

from pathlib import Path

import msgspec

from receiver.actions import Action
from receiver.template import NameText, is_template


class DrainParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    service: NameText
    directory: str = "/run/drain"


class Drain(Action):
    name = "drain"
    Params = DrainParams
    timeout = 5.0

    def idempotent(self, params):
        return True

    def problems(self, params, inventory):
        if is_template(params.directory):
            yield "directory: a label may not choose it; write it out"

    def run(self, params, context):
        service = context.inventory.get(params.service)  # raises ActionError for an unknown one
        path = Path(params.directory, f"{service.name}.drain")
        if not context.saved:  # it is repeated after a crash
            context.save({"existed": path.exists()})
        path.touch()
        return {"path": str(path)}

    def undoable(self, params):
        return True

    def rollback(self, params, context, result):
        ours = bool(context.saved) and not context.saved["existed"]
        if ours:
            Path(params.directory, f"{params.service}.drain").unlink(missing_ok=True)
        return {"removed": ours}
