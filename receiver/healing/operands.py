"""Which pauses, breakers and runs a person means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from receiver.errors import RefusedError
from receiver.healing.coverage import Coverage
from receiver.journal import ActivePause, Transaction
from receiver.policy.guards.situation import Reason
from receiver.policy.run import Run, State
from receiver.policy.scope import EVERYWHERE, TARGET, Scope, ScopeError, parse_scope, stored_scope

NOT_PAUSED: Final = "not_paused"
"""The code of the refusal to resume what is not paused."""
_NAMED: Final = 5
"""Pauses that a refusal names."""


class Paused(msgspec.Struct, frozen=True):
    """A pause, and what it covers now."""

    pause: ActivePause
    covers: Coverage


class Resumed(msgspec.Struct, frozen=True):
    """What a resume ended, and what stays paused."""

    dormancy_ended: bool
    pauses: tuple[ActivePause, ...]
    stay: tuple[ActivePause, ...]


def meant_by(scope: str) -> Scope:
    try:
        return parse_scope(scope)
    except ScopeError as error:
        raise RefusedError(str(error), status=400) from None


def breaker_meant(written: str, known: Iterable[str]) -> str:
    """Return the name of the breaker that is meant. Raises RefusedError when it may be several."""
    if written in known or not written.startswith(TARGET):
        return written
    meant = stored_scope(written)
    found = [name for name in known if meant.means(stored_scope(name))]
    if len(found) > 1:
        raise RefusedError(f"{written} may be {' or '.join(found)}; write that", status=409)
    return found[0] if found else written


def pauses_of(standing: Iterable[ActivePause], meant: Scope) -> tuple[ActivePause, ...]:
    """Return the pauses of just this scope. Raises RefusedError when it may be one of several."""
    found = tuple(pause for pause in standing if meant.means(stored_scope(pause.scope)))
    scopes = dict.fromkeys(pause.scope for pause in found)
    if meant.value and len(scopes) > 1:
        raise RefusedError(
            f"{meant.text} does not say which is meant; paused are {', '.join(scopes)}:"
            " resume one of these by its scope",
            status=409,
            code=NOT_PAUSED,
        )
    return found


def not_paused(meant: Scope, standing: Iterable[ActivePause]) -> RefusedError:
    scopes = list(dict.fromkeys(pause.scope for pause in standing))
    awake = " and the engine is awake" if meant is EVERYWHERE else ""
    if not scopes:
        return RefusedError(f"nothing is paused{awake}", status=409)
    more = f" and {len(scopes) - _NAMED} more" if len(scopes) > _NAMED else ""
    return RefusedError(
        f"there is no pause of {meant.text}{awake}; paused are {', '.join(scopes[:_NAMED])}{more}:"
        " resume one of these by its scope",
        status=409,
        code=NOT_PAUSED,
    )


def run_meant(transaction: Transaction, run: int) -> Run:
    found = transaction.run(run)
    if found is None:
        raise RefusedError(f"no run {run}", status=404, among="runs")
    return found


def awaiting_approval(transaction: Transaction, run: int) -> Run:
    found = run_meant(transaction, run)
    if found.state is not State.PENDING or found.reason != Reason.AWAITING_APPROVAL:
        waits = found.reason if found.state is State.PENDING else found.outcome or found.state
        raise RefusedError(f"run {run} does not wait for approval: {waits}", status=409)
    return found
