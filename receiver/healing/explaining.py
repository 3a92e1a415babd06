"""Why was it decided so? The stored decision, asked once more of the guards that decide live."""

from __future__ import annotations

from typing import Any

import msgspec

from receiver.actions import Actions
from receiver.config.stored import strategy_of
from receiver.errors import JournalError
from receiver.journal import (
    ConfigBody,
    ConfigLoad,
    DecisionInputs,
    DecisionRecord,
    Journal,
    Transaction,
)
from receiver.journal import inputs as stored
from receiver.policy.decide import Decision, decide
from receiver.policy.guards.situation import Situation
from receiver.policy.turning import Turning, turning


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal has about a decision."""

    decision: DecisionRecord
    inputs: DecisionInputs
    config: ConfigBody | None
    replaced: ConfigLoad | None
    """The load of another configuration that came after it."""


class DecisionExplanation(msgspec.Struct, frozen=True, kw_only=True):
    decision: DecisionRecord
    inputs: dict[str, Any] | None
    """What it rested on; None when that is not kept."""
    again: Decision | None
    """What the guards of this promheal say to that; None when they cannot be asked."""
    problem: str
    """Why not."""
    differs: tuple[str, ...]
    """The guards that do not say what they said then."""
    turning: Turning | None
    version: str
    """Of the promheal that decided; empty when it is not known."""
    replaced: ConfigLoad | None

    def told(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        one, turning, replaced = self.decision, self.turning, self.replaced
        return {
            "id": one.id,
            "strategy": one.strategy,
            "target": one.target,
            "verdict": one.verdict,
            "reason": one.reason,
            "until": one.until,
            "detail": one.detail,
            "answers": one.answers,
            "run": one.run,
            "episode": one.episode,
            "at": one.at,
            "lastAt": one.last_at,
            "times": one.times,
            "configHash": one.config_hash,
            "inputs": self.inputs,
            "problem": self.problem,
            "differs": list(self.differs),
            "allowedAt": None if turning is None else turning.at,
            "allowedIf": [] if turning is None else msgspec.to_builtins(turning.facts),
            "version": self.version,
            "replacedBy": None if replaced is None else replaced.hash,
            "replacedAt": None if replaced is None else replaced.at,
        }


def evidence(transaction: Transaction, decision: DecisionRecord) -> Evidence:
    found = decision.config_hash and transaction.configurations(decision.config_hash, limit=1)
    return Evidence(
        decision=decision,
        inputs=transaction.inputs(decision.id),
        config=found[0] if found else None,
        replaced=transaction.load_after(decision.last_at, decision.config_hash),
    )


def explain_one(journal: Journal, number: int, actions: Actions) -> DecisionExplanation | None:
    """Return why a decision was made; None if the journal has none of this number."""

    def read(transaction: Transaction) -> Evidence | None:
        one = transaction.decision(number)
        return None if one is None else evidence(transaction, one)

    found = journal.read(read)
    return None if found is None else explain(found, actions)


def explain(of: Evidence, actions: Actions, *, first: bool = False) -> DecisionExplanation:
    """Ask the guards once more what they say to what is stored. *first*: as it was at first."""
    packed = of.inputs.first if first else of.inputs.last
    situation: Situation | None = None
    inputs, problem = None, "what it rested on is not kept"
    if packed is not None:
        try:
            inputs = stored.shown(packed)
            situation = _situation(of, packed, actions)
            problem = ""
        except JournalError as error:
            problem = str(error)
    again = None if situation is None else decide(situation)
    return DecisionExplanation(
        decision=of.decision,
        inputs=inputs,
        again=again,
        problem=problem,
        differs=() if again is None or first else of.decision.differs(again),
        turning=None if situation is None else turning(situation),
        version="" if of.config is None else of.config.version,
        replaced=of.replaced,
    )


def _situation(of: Evidence, packed: bytes, actions: Actions) -> Situation:
    if of.config is None:
        raise JournalError("the configuration that decided it is not kept")
    strategy = strategy_of(of.config.body, of.decision.strategy, actions)
    return stored.unpack(packed, strategy)
