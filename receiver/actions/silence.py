"""`silence`: have Alertmanager tell nobody for a while, about the target's alerts of this name."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from receiver.actions import Action, Context
from receiver.clients.alertmanager import Alertmanager, Silence
from receiver.errors import ActionError, UpstreamError
from receiver.policy.duration import Duration

CREATED_BY: Final = "promheal"
MOST: Final = 86_400.0
"""Seconds; for longer a person should decide it."""
_MAX_TARGET: Final = 300  # characters of it in the comment


class SilenceParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    duration: Annotated[Duration, msgspec.Meta(gt=0, le=MOST)]
    """From the step's start; at most `1d`."""
    labels: tuple[
        Annotated[str, msgspec.Meta(min_length=1, extra={"type": "label name"})], ...
    ] = ()
    """What has the same values as the alert in these labels is silenced. `[]`: `alertname` and the
    labels of the strategy's `target`; without a `target`, all labels of the alert."""


class SilenceAlerts(Action):
    """Creates a silence that expires by itself; undone, it expires at once."""

    name = "silence"
    Params = SilenceParams
    timeout = 30.0
    heals = False

    def idempotent(self, params: SilenceParams) -> bool:  # noqa: ARG002  it knows its own again
        return True

    def run(self, params: SilenceParams, context: Context) -> dict[str, Any]:
        alertmanager = _alertmanager(context)
        matchers = _matchers(params, context)
        mark = context.saved.get("mark")
        if mark is None:
            # Numbers of runs begin at 1 in each journal, and several may share an Alertmanager.
            mark = secrets.token_hex(8)
            context.save({"mark": mark, "matchers": matchers})
        deadline = time.monotonic() + context.timeout
        try:
            found = _find(alertmanager, matchers, mark, deadline)
            if found is not None and found.expired:
                return {"skipped": f"silence {found.id} has been expired meanwhile"}
            if found is not None:
                return _result(found.id, matchers, found.ends_at.timestamp())
            ends_at = context.started_at + params.duration
            identity = alertmanager.silence(
                matchers,
                starts_at=context.now,
                ends_at=ends_at,
                created_by=CREATED_BY,
                comment=f"{_comment(mark, context)}: {context.strategy} on "
                f"{context.target[:_MAX_TARGET]}",
                timeout=_left(deadline),
            )
        except UpstreamError as error:
            raise ActionError(f"Alertmanager: {error}") from None
        return _result(identity, matchers, ends_at)

    def undoable(self, params: SilenceParams) -> bool:  # noqa: ARG002
        return True

    def rollback(
        self,
        params: SilenceParams,  # noqa: ARG002
        context: Context,
        result: Mapping[str, Any] | None,  # noqa: ARG002  what was saved is enough, and was earlier
    ) -> dict[str, Any]:
        mark = context.saved.get("mark")
        if mark is None:
            return {"skipped": "nothing was silenced"}
        alertmanager = _alertmanager(context)
        deadline = time.monotonic() + context.timeout
        try:
            found = _find(alertmanager, context.saved["matchers"], mark, deadline)
            if found is None:
                return {"skipped": "there is no such silence any more"}
            if found.expired:
                return {"skipped": f"silence {found.id} had expired"}
            alertmanager.expire(found.id, timeout=_left(deadline))
        except UpstreamError as error:
            raise ActionError(f"Alertmanager: {error}") from None
        return {"expired": found.id}


def _alertmanager(context: Context) -> Alertmanager:
    if context.alertmanager is None:
        raise ActionError("there is no `alertmanager` in promheal.yml, nothing was touched")
    return context.alertmanager


def _matchers(params: SilenceParams, context: Context) -> dict[str, str]:
    """Return what must be equal, by label. Raises ActionError when that is everything."""
    labels = context.alert["labels"]
    names = params.labels or ("alertname", *context.target_labels)
    matchers = {name: str(labels.get(name, "")) for name in names}
    if not any(matchers.values()):
        raise ActionError(
            f"the alert has none of the labels {', '.join(matchers)}: such a silence would be for "
            "all that have none either; nothing was silenced"
        )
    return matchers


def _comment(mark: str, context: Context) -> str:
    return f"promheal run {context.run_id} step {context.step} ({mark})"


def _find(
    alertmanager: Alertmanager, matchers: Mapping[str, str], mark: str, deadline: float
) -> Silence | None:
    """Return our own silence, if it was made."""
    for silence in alertmanager.silences(matchers, timeout=_left(deadline)):
        if silence.created_by == CREATED_BY and f"({mark})" in silence.comment:
            return silence
    return None


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise ActionError("Alertmanager: not in time")
    return left


def _result(identity: str, matchers: Mapping[str, str], ends_at: float) -> dict[str, Any]:
    return {"silence": identity, "matchers": dict(matchers), "ends_at": ends_at}
