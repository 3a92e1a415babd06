"""What was decided: each verdict once, with every guard's answer and how often it was repeated."""

from __future__ import annotations

from typing import Any

import msgspec

from receiver.journal.statements import BIGGEST, Row, Statements, json_text
from receiver.policy.decide import Decision
from receiver.policy.target import Key
from receiver.redaction import redact_all

_decode = msgspec.json.decode


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as it was written down."""

    id: int
    strategy: str
    target: str
    verdict: str
    reason: str
    until: float | None
    detail: str
    answers: list[dict[str, Any]]
    """[{guard, verdict, reason, until, detail}] in the order in which the guards were asked."""
    run: int | None
    episode: int | None
    """The newest that asked for it, the last time; None when nothing fired."""
    at: float
    last_at: float
    times: int
    config_hash: str = ""
    """Of the configuration that decided; empty where that was not kept yet."""

    def differs(self, now: Decision) -> tuple[str, ...]:
        """Return the guards that say something else in *now*, a decision on the same facts."""
        said = {each["guard"]: each for each in redact_all(answers_of(now))}
        was = {each["guard"]: each for each in self.answers}
        return tuple(name for name in {**was, **said} if was.get(name) != said.get(name))


class DecisionInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision rested on, as `receiver.journal.inputs` packs it."""

    first: bytes | None
    """The first time; None when that is not kept."""
    last: bytes | None
    """The last time; the same when it was never repeated."""


class DecisionRows(Statements):
    def record(
        self,
        key: Key,
        decision: Decision,
        *,
        run: int | None,
        now: float,
        config_hash: str = "",
        inputs: bytes | None = None,
    ) -> bool:
        """Write a decision down; True when it is news and no repetition of the last one.

        It repeats the last one of *key* while verdict, reason, run and configuration are the same,
        and something fires for the key that had fired then. So what fires when all had ended is
        written anew, and so is what a reload decides anew, which is no news. *inputs* is what it
        rests on, packed.
        """
        strategy, target = key
        verdict = decision.verdict
        reason = verdict.reason or ""
        answers = json_text(answers_of(decision))
        latest = self._execute("last_decision", strategy=strategy, target=target)
        firing = self._execute("firing_for", strategy=strategy, target=target)
        last, span = latest.fetchone(), firing.fetchone()
        assert span is not None
        oldest, newest = span
        same = (
            last is not None
            and (last["verdict"], last["reason"], last["run"]) == (verdict.answer, reason, run)
            and _goes_on(last["episode"], oldest)
        )
        if last is not None and same and last["config_hash"] == config_hash:
            self._execute(
                "repeat_decision", id=last["id"], episode=newest, now=now, until=verdict.until,
                detail=verdict.detail, answers=answers,
            )  # fmt: skip
            self._execute("repeat_inputs", id=last["id"], now=now, inputs=inputs)
            return False
        self._execute(
            "put_decision", strategy=strategy, target=target, verdict=verdict.answer,
            reason=reason, until=verdict.until, detail=verdict.detail, answers=answers,
            run=run, episode=newest, now=now,
        )  # fmt: skip
        self._execute("put_inputs", now=now, config_hash=config_hash, inputs=inputs)
        return not same

    def decision(self, decision: int) -> DecisionRecord | None:
        row = self._execute("decision_by_id", id=decision).fetchone()
        return None if row is None else _recorded(row)

    def decision_at(self, key: Key, at: float) -> DecisionRecord | None:
        """The decision that was in force for *key* at a time."""
        row = self._execute("decision_at", strategy=key.strategy, target=key.target, at=at)
        found = row.fetchone()
        return None if found is None else _recorded(found)

    def inputs(self, decision: int) -> DecisionInputs:
        row = self._execute("inputs", id=decision).fetchone()
        if row is None:
            return DecisionInputs(first=None, last=None)
        return DecisionInputs(first=row[0] or row[1], last=row[1])

    def last_decision(self, key: Key) -> DecisionRecord | None:
        row = self._execute("last_decision", strategy=key.strategy, target=key.target).fetchone()
        return None if row is None else _recorded(row)

    def decisions(self, run: int) -> list[DecisionRecord]:
        return [_recorded(row) for row in self._execute("decisions_of_run", run=run)]

    def latest_decisions(
        self, *, limit: int, before: int | None = None, strategy: str | None = None
    ) -> list[DecisionRecord]:
        """Newest first, also those that led to no run."""
        page: dict[str, Any] = {"before": BIGGEST if before is None else before, "limit": limit}
        rows = (
            self._execute("decisions", **page)
            if strategy is None
            else self._execute("decisions_of_strategy", strategy=strategy, **page)
        )
        return [_recorded(row) for row in rows]


def answers_of(decision: Decision) -> list[dict[str, Any]]:
    """Return what every guard said, as it is written down."""
    return [
        {
            "guard": each.guard,
            "verdict": each.verdict.answer,
            "reason": each.verdict.reason or "",
            "until": each.verdict.until,
            "detail": each.verdict.detail,
        }
        for each in decision.answers
    ]


def _goes_on(newest_then: int | None, oldest_now: int | None) -> bool:
    """Whether something has fired without a break since then; episodes are numbered in order."""
    if newest_then is None or oldest_now is None:
        return newest_then is oldest_now
    return oldest_now <= newest_then


def _recorded(row: Row) -> DecisionRecord:
    return DecisionRecord(**{**dict(row), "answers": _decode(row["answers"])})
