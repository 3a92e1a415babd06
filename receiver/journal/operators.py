"""What people said: pauses, vetoes, and the audit of every change."""

from __future__ import annotations

import msgspec

from receiver.journal.statements import BIGGEST, Row, Statements
from receiver.policy.scope import stored_scope
from receiver.policy.target import Key


class ActivePause(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing may begin, everywhere or in one place, because an operator said so."""

    id: int
    scope: str
    """`all`, `strategy:NAME` or `target:MATCHERS`, as `receiver.policy.scope` reads it."""
    reason: str
    by: str
    since: float
    until: float | None
    """When it ends by itself; None: when someone resumes."""

    def covers(self, key: Key) -> bool:
        return stored_scope(self.scope).covers(*key)


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """One change by an operator."""

    id: int
    at: float
    by: str
    action: str
    object: str
    """What was changed: a scope, a breaker's name, `run 7`, a task."""
    reason: str
    detail: str
    """What came of it."""


class OperatorRows(Statements):
    def pauses(self, *, now: float) -> list[ActivePause]:
        """The oldest first."""
        return [pause_in(row) for row in self._execute("pauses", now=now)]

    def put_pause(
        self, scope: str, *, reason: str, by: str, now: float, until: float | None
    ) -> ActivePause:
        pause = self._one("put_pause", scope=scope, reason=reason, by=by, now=now, until=until)
        return ActivePause(id=pause, scope=scope, reason=reason, by=by, since=now, until=until)

    def lift_pauses(self, scope: str, *, now: float) -> list[ActivePause]:
        """End the pauses of a scope, and return those that were active."""
        return [
            pause_in(row) for row in self._execute("lift_pauses", scope=scope, now=now).fetchall()
        ]

    def put_veto(self, key: Key, *, by: str, reason: str, now: float) -> None:
        """Note a person's no to everything that fires for *key* now."""
        self._execute(
            "put_veto", strategy=key.strategy, target=key.target, by=by, reason=reason, now=now
        )

    def put_audit(
        self, action: str, object_: str, *, by: str, reason: str, now: float, detail: str = ""
    ) -> None:
        self._execute(
            "put_audit", action=action, object=object_, by=by, reason=reason, now=now, detail=detail
        )

    def audits(self, *, limit: int, before: int | None = None) -> list[Audit]:
        """Newest first."""
        rows = self._execute("audits", limit=limit, before=BIGGEST if before is None else before)
        return [Audit(**dict(row)) for row in rows]


def pause_in(row: Row) -> ActivePause:
    return ActivePause(
        id=row["id"],
        scope=row["scope"],
        reason=row["reason"],
        by=row["by"],
        since=row["since"],
        until=row["until"],
    )
