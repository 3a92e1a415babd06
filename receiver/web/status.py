"""`GET /api/status` in the shape of the operations guide, and the parts that other routes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from flask import request

from receiver.app import Promheal
from receiver.clients.llm import LlmKeys
from receiver.engine.periodic_task import TaskState
from receiver.journal import ActivePause, Stats, Worker
from receiver.policy.breaker import PERMANENT_REASON, Breaker, BreakerState
from receiver.policy.dormancy import Dormancy, backoff
from receiver.policy.run import FAILURES, Outcome, State
from receiver.reporting.metrics import HEALS
from receiver.reporting.needs import needs, worst
from receiver.reporting.needs.need import Need
from receiver.reporting.present import Present, Seen
from receiver.settings import EngineSettings


def look(service: Promheal) -> tuple[Present, Seen]:
    present = service.present()
    return present, service.look(present)


def status(service: Promheal, present: Present, seen: Seen) -> dict[str, Any]:
    tasks, found = present.tasks, needs(present, seen)
    keys, test = service.current.keys.summary(), service.intake.last_test
    return {
        "status": worst(found),
        "needs": [need(one) for one in found],
        "selfHealing": _self_healing(service, seen),
        "circuitBreakers": breakers(service, seen.breakers, seen.now),
        "backgroundTasks": {
            "totalTasks": len(tasks),
            "activeTasks": sum(not task.paused for task in tasks),
            "tasks": [_task(task, iso) for task in tasks],
        },
        "llm": {
            "keyManagement": {
                "totalKeys": keys.total,
                "activeKeys": keys.active,
                "failedKeys": keys.failed,
            },
            "providers": _providers(service.current.keys),
        },
        "services": services(service),
        "flags": flags(service),
        "pauses": [pause(one) for one in seen.pauses],
        "alerts": {
            "firing": seen.snapshot.open_alerts,
            "byStrategy": dict(seen.snapshot.firing),
        },
        "runs": {
            str(state): seen.snapshot.states.get(state, 0)
            for state in State
            if state is not State.FINISHED
        },
        "upstreams": [
            {
                "name": one.name,
                "up": not one.problem,
                "problem": one.problem or None,
                "since": one.since,
            }
            for one in present.upstreams
        ],
        "dryRun": present.dry_run,
        "lastNotification": present.last_notification or None,
        "lastTestAlert": test and {"id": test.id, "at": test.at, "receiver": test.receiver},
        "waiting": dict(seen.snapshot.waiting),
        "workers": [_worker(one) for one in seen.snapshot.workers],
        "journal": _journal(service),
        "backup": None
        if present.backup is None
        else {
            "folder": present.backup.folder,
            "at": present.backup.at or None,
            "bytes": present.backup.size,
            "everySeconds": present.backup.every,
        },
        "config": {"hash": service.config.hash, "files": [str(path) for path in service.files]},
        "issues": [one.issue for one in found],
        "recommendations": [one.advice for one in found if one.advice],
    }


def need(one: Need) -> dict[str, Any]:
    return {
        "id": one.id,
        "severity": one.severity,
        "title": one.title,
        "why": one.why,
        "reason": one.reason,
        "run": one.run,
        "advice": one.advice,
        "command": one.command,
        "links": {what: request.script_root + path for what, path in one.links.items()},
    }


def breakers(
    service: Promheal, remembered: Mapping[str, Breaker], now: float
) -> list[dict[str, Any]]:
    """Return the permanent breakers, and the others that have failures."""
    always = service.control.breaker_names()
    others = [
        name
        for name, one in remembered.items()
        if name not in always and (one.failures or one.trips)
    ]
    return [breaker(name, remembered.get(name, Breaker()), now) for name in (*always, *others)]


def breaker(name: str, one: Breaker, now: float) -> dict[str, Any]:
    state = one.state(now)
    permanent = state is BreakerState.PERMANENT_OPEN
    return {
        "name": name,
        "state": state,
        "failureCount": one.failures,
        "trips": one.trips,
        "until": one.until,
        "trial": one.trial,
        "permanentOpenReason": PERMANENT_REASON if permanent else None,
    }


def _worker(one: Worker) -> dict[str, Any]:
    return {"host": one.host, "runsOn": list(one.names), "version": one.version, "seen": one.seen}


def _journal(service: Promheal) -> dict[str, Any]:
    condition = service.journal.condition
    return {"state": condition.state, "problem": condition.problem or None}


def pause(one: ActivePause) -> dict[str, Any]:
    return msgspec.structs.asdict(one)


def tasks(service: Promheal) -> list[dict[str, Any]]:
    return [_task(task, lambda at: at) for task in service.background.tasks]


def flags(service: Promheal) -> dict[str, bool]:
    return msgspec.structs.asdict(service.config.settings.flags)


def services(service: Promheal) -> list[dict[str, Any]]:
    return [
        {
            "name": sample.name,
            "state": sample.state,
            "detail": sample.detail,
            "checkedAt": sample.checked_at,
        }
        for sample in service.sampling.samples
    ]


def _providers(keys: LlmKeys) -> list[dict[str, Any]]:
    return [
        {
            "name": provider.name,
            "keys": [
                {
                    "name": key.name,
                    "state": key.state,
                    "detail": key.detail,
                    "checkedAt": key.checked_at,
                }
                for key in provider.keys
            ],
        }
        for provider in keys.providers()
    ]


def _self_healing(service: Promheal, seen: Seen) -> dict[str, Any]:
    dormancy, engine = seen.dormancy, service.config.settings.engine
    delay = _backoff(dormancy, engine)
    dormant = dormancy.since is not None
    healed, failed = heals(seen.snapshot, Outcome.HEALED), heals(seen.snapshot, *FAILURES)
    return {
        "enabled": service.config.settings.flags.auto_healing,
        "isDormant": dormant,
        "dormantReason": dormancy.reason if dormant else None,
        "dormantSince": dormancy.since,
        "consecutiveFailures": dormancy.failures,
        "backoffDelay": round(delay * 1000),
        "backoffUntil": None if dormancy.failed_at is None else dormancy.failed_at + delay,
        "totalAttempts": healed + failed + heals(seen.snapshot, Outcome.INCONCLUSIVE),
        "successfulHealings": healed,
        "failedHealings": failed,
    }


def heals(snapshot: Stats, *outcomes: Outcome, strategy: str = "") -> int:
    """Return how many runs ended so since there is a journal, of one strategy or of all."""
    return int(
        sum(
            number
            for (metric, labels), number in snapshot.totals.items()
            if metric == HEALS.name
            and labels[1] in outcomes
            and (not strategy or labels[0] == strategy)
        )
    )


def _backoff(dormancy: Dormancy, engine: EngineSettings) -> float:
    return backoff(dormancy.failures, first=engine.backoff.first, most=engine.backoff.most)


def _task(task: TaskState, time: Callable[[float], Any]) -> dict[str, Any]:
    return {
        "id": task.id,
        "intervalSeconds": task.interval,
        "paused": task.paused,
        "lastRun": None if task.last_run is None else time(task.last_run),
        "nextRun": None if task.next_run is None else time(task.next_run),
        "runs": task.runs,
        "failures": task.failures,
        "lastError": task.last_error,
    }


def iso(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
