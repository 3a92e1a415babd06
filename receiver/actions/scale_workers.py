"""`scale_workers`: more or fewer of those who do a service's work, within its bounds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

from receiver.actions import Action, Context, lacking
from receiver.errors import ActionError
from receiver.services import Inventory, Service, Workers
from receiver.services.workers import MOST
from receiver.template import NameText


class ScaleParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    service: NameText
    """A name in `services.yml` that has [`workers`](configuration.md#workers), as a rule from a
    label."""
    by: Annotated[int, msgspec.Meta(ge=-MOST, le=MOST)] | None = None
    """So many more, or with a minus fewer."""
    to: Annotated[int, msgspec.Meta(ge=0, le=MOST)] | None = None
    """Or so many. One of the two."""

    def __post_init__(self) -> None:
        if (self.by is None) == (self.to is None) or self.by == 0:
            raise ValueError("write either `by`, as 2 or -1, or `to`")


class _Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided before anything was touched; JSON, for the journal."""

    before: int
    """How many were wanted; who of them happened to be ready is no number to go on from."""
    wanted: int
    lacking: int = 0
    """How many of those before did not work: that they still do not is no failure of ours."""


class ScaleWorkers(Action):
    """Done when the number is reached and holds.

    From which number to which is saved first: repeated after a crash it goes to the same one, and
    is undone wherever it was cut.
    """

    name = "scale_workers"
    Params = ScaleParams
    timeout = 120.0

    def idempotent(self, params: ScaleParams) -> bool:  # noqa: ARG002
        return True

    def problems(self, params: ScaleParams, inventory: Inventory) -> Iterable[str]:
        yield from lacking("workers", params.service, inventory)

    def run(self, params: ScaleParams, context: Context) -> dict[str, Any]:
        deadline = time.monotonic() + context.timeout
        service = context.inventory.get(params.service)
        workers = _workers(service)
        if context.saved:
            scaling = msgspec.convert(context.saved, _Scaling)
        else:
            found = workers.count(timeout=context.timeout)
            before = found.wanted
            asked = params.to if params.to is not None else before + (params.by or 0)
            wanted = max(workers.min, min(workers.max, asked))
            # Who is out of bounds already is not moved the other way.
            if wanted == before or (wanted > before) != (asked > before):
                bounds = f"{workers.min} to {workers.max}"
                return {"skipped": f"{service.name!r} has {before} workers; bounds {bounds}"}
            scaling = _Scaling(before=before, wanted=wanted, lacking=found.lacking)
            context.save(msgspec.structs.asdict(scaling))
        reached = _scale(workers, scaling.wanted, scaling, deadline)
        return {"service": service.name, "before": scaling.before, **reached}

    def undoable(self, params: ScaleParams) -> bool:  # noqa: ARG002
        return True

    def rollback(
        self,
        params: ScaleParams,
        context: Context,
        result: Mapping[str, Any] | None,  # noqa: ARG002  what was saved tells all
    ) -> dict[str, Any]:
        if not context.saved:
            return {"restored": False, "detail": "nothing had been asked for"}
        deadline = time.monotonic() + context.timeout
        scaling = msgspec.convert(context.saved, _Scaling)
        workers = _workers(context.inventory.get(params.service))
        now = workers.count(timeout=context.timeout).wanted
        low, high = sorted((scaling.before, scaling.wanted))
        if not low <= now <= high:
            raise ActionError(
                f"somebody else has scaled {params.service!r}, and it is left as it is: it had "
                f"{scaling.before} workers, promheal wanted {scaling.wanted}, now there are {now}"
            )
        return {"restored": True, **_scale(workers, scaling.before, scaling, deadline)}


def _scale(workers: Workers, wanted: int, scaling: _Scaling, deadline: float) -> dict[str, Any]:
    left = max(0.1, deadline - time.monotonic())
    reached = workers.scale(wanted, lacking=scaling.lacking, timeout=left)
    ready = {"ready": reached.ready} if reached.lacking else {}
    return {"workers": reached.wanted, **ready}


def _workers(service: Service) -> Workers:
    if service.workers is None:
        raise ActionError(
            f"{service.name!r} has no `workers:` in services.yml; nothing was touched"
        )
    return service.workers
