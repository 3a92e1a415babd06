"""How is the healer? `GET /api/status` in the shape of the operations guide, and its parts.

The sentences and thresholds are the guide's, so that what is written for it works as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from receiver.background import TaskState, load
from receiver.breaker import PERMANENT_REASON, Breaker, BreakerState
from receiver.dormancy import Dormancy, backoff
from receiver.duration import format_duration
from receiver.journal import Snapshot, Transaction, Worker
from receiver.journal.condition import JournalState
from receiver.journal.steering import Key, Pause
from receiver.llm import Keys
from receiver.metrics import HEALS
from receiver.run import FAILURES, Outcome, State
from receiver.settings import EngineSettings
from receiver.wiring import CLOCK_LEAD, Service

WARN_FAILURES: Final = 5
"""Consecutive failures from which the status is a warning."""
LATELY: Final = 3_600.0
"""Seconds for which a heal that did not hold is shown."""
FLAPPING: Final = 2
"""Heals of one target that did not hold, from which the status is a warning."""
SHOWN: Final = 5
"""Targets that flap, shown one by one."""

_RESET: Final = (
    "Find out why it kept failing, then call POST /api/breakers/{}/reset with force and a reason"
)


class Seen(msgspec.Struct, frozen=True):
    """What a status is made of: one look at the journal, and what the process knows besides."""

    snapshot: Snapshot
    dormancy: Dormancy
    breakers: Mapping[str, Breaker]
    pauses: tuple[Pause, ...]
    relapses: Mapping[Key, int]
    """Heals that did not hold, lately."""
    now: float


def look(service: Service) -> Seen:
    now = service.clock()

    def read(transaction: Transaction) -> Seen:
        return Seen(
            transaction.snapshot(),
            transaction.dormancy(),
            transaction.breakers(),
            tuple(transaction.pauses(now=now)),
            transaction.relapses(since=now - LATELY),
            now,
        )

    return service.journal.read(read)


def status(service: Service, seen: Seen) -> dict[str, Any]:
    tasks = service.background.tasks
    issues, recommendations = _findings(service, seen, tasks)
    critical = any(issue.startswith("CRITICAL") for issue in issues)
    keys, test = service.keys.summary(), service.intake.last_test
    return {
        "status": "critical" if critical else "warning" if issues else "healthy",
        "selfHealing": _self_healing(service, seen),
        "circuitBreakers": breakers(service, seen),
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
            "providers": _providers(service.keys),
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
        "lastTestAlert": test and {"id": test.id, "at": test.at, "receiver": test.receiver},
        "waiting": dict(seen.snapshot.waiting),
        "workers": [_worker(one) for one in seen.snapshot.workers],
        "journal": _journal(service),
        "config": {"hash": service.config.hash, "files": [str(path) for path in service.files]},
        "issues": issues,
        "recommendations": recommendations,
    }


def breakers(service: Service, seen: Seen) -> list[dict[str, Any]]:
    """Return those that there always are, and the others that have something to remember."""
    always = service.control.breaker_names()
    others = [
        name
        for name, one in seen.breakers.items()
        if name not in always and (one.failures or one.trips)
    ]
    return [
        breaker(name, seen.breakers.get(name, Breaker()), seen.now) for name in (*always, *others)
    ]


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


def _journal(service: Service) -> dict[str, Any]:
    condition = service.journal.condition
    return {"state": condition.state, "problem": condition.problem or None}


def pause(one: Pause) -> dict[str, Any]:
    return msgspec.structs.asdict(one)


def tasks(service: Service) -> list[dict[str, Any]]:
    return [_task(task, lambda at: at) for task in service.background.tasks]


def flags(service: Service) -> dict[str, bool]:
    return msgspec.structs.asdict(service.config.settings.flags)


def services(service: Service) -> list[dict[str, Any]]:
    return [
        {
            "name": sample.name,
            "state": sample.state,
            "detail": sample.detail,
            "checkedAt": sample.checked_at,
        }
        for sample in service.sampling.samples
    ]


def _providers(keys: Keys) -> list[dict[str, Any]]:
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


def _self_healing(service: Service, seen: Seen) -> dict[str, Any]:
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


def heals(snapshot: Snapshot, *outcomes: Outcome, strategy: str = "") -> int:
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


def _findings(
    service: Service, seen: Seen, tasks: Iterable[TaskState]
) -> tuple[list[str], list[str]]:
    """Return what is wrong, and what to do about it; the worst first."""
    found: list[tuple[str, str]] = [
        *_of_process(service),
        *_of_engine(service, seen),
        *_of_heals(seen),
        *_of_tasks(tasks),
        *_of_settings(service, seen),
    ]
    found.sort(key=lambda one: not one[0].startswith("CRITICAL"))
    return [issue for issue, _ in found], [advice for _, advice in found if advice]


def _of_process(service: Service) -> Iterable[tuple[str, str]]:
    condition = service.journal.condition
    if not condition.sound:
        checking = condition.state is JournalState.CHECKING
        yield f"{'WARNING' if checking else 'CRITICAL'}: {condition.problem}", condition.remedy
    elif reason := service.ready():
        yield f"CRITICAL: {reason}", ""
    trouble = service.journal.trouble
    if condition.stores and trouble:
        yield (
            "CRITICAL: the journal cannot store; alerts are answered 503",
            f"Make room on the disk of the journal, or mend what is named here: {trouble}",
        )
    lead = service.clock_lead()
    if abs(lead) > CLOCK_LEAD:
        yield (
            f"WARNING: the wall clock is {lead:.0f} s ahead of promheal's, whose times are shown",
            "Restart the machine when it suits: promheal's clock follows the wall clock then",
        )
    if not service.reload_successful:
        yield (
            "WARNING: the configuration was not reloaded; the one before is in force",
            "Run promheal check, mend what it names, and reload",
        )


def _of_engine(service: Service, seen: Seen) -> Iterable[tuple[str, str]]:
    if seen.snapshot.without_worker:
        yield (
            f"WARNING: {seen.snapshot.without_worker} runs are bound to a host without a worker",
            "Start promheal work on it; promheal run ID says which host it is",
        )
    dormancy, after = seen.dormancy, service.config.settings.engine.dormant_after
    if dormancy.since is not None:
        yield (
            "CRITICAL: Self-Healing Engine in DORMANT mode",
            "Call POST /api/system/heal/resume with valid reason",
        )
    elif dormancy.failures >= WARN_FAILURES:
        yield (
            f"WARNING: Self-Healing has {dormancy.failures} consecutive failures",
            f"System approaching Dormant Mode threshold ({after} failures)",
        )
    for name, one in seen.breakers.items():
        match one.state(seen.now):
            case BreakerState.PERMANENT_OPEN:
                yield (
                    f"CRITICAL: Circuit breaker {name} is PERMANENT_OPEN",
                    _RESET.format(name),
                )
            case BreakerState.OPEN | BreakerState.HALF_OPEN as state:
                yield f"WARNING: Circuit breaker {name} is {state}", ""
            case BreakerState.CLOSED:
                pass


def _of_heals(seen: Seen) -> Iterable[tuple[str, str]]:
    """What is healed again and again is not healed."""
    flapping = [(key, times) for key, times in seen.relapses.items() if times >= FLAPPING]
    for (strategy, target), times in flapping[:SHOWN]:
        lately = format_duration(LATELY)
        yield (
            f"WARNING: {times} heals of {strategy} on {target} did not hold in the last {lately}",
            "Look for the cause, which its actions do not remove",
        )
    if len(flapping) > SHOWN:
        yield f"WARNING: heals of {len(flapping) - SHOWN} more targets did not hold", ""


def _of_tasks(tasks: Iterable[TaskState]) -> Iterable[tuple[str, str]]:
    tasks = tuple(tasks)
    match load(len(tasks)):
        case "overload":
            yield (
                f"WARNING: {len(tasks)} background tasks are an overload (3-5 are normal)",
                "Call POST /api/tasks/cleanup, and remove providers that are not used",
            )
        case "caution":
            yield f"WARNING: {len(tasks)} background tasks (3-5 are normal)", ""
        case _:
            pass
    paused = [task.id for task in tasks if task.paused]
    if paused:
        yield (
            f"WARNING: background tasks are paused: {', '.join(paused)}",
            "Call POST /api/tasks/resume",
        )


def _of_settings(service: Service, seen: Seen) -> Iterable[tuple[str, str]]:
    settings = service.config.settings
    if service.keys.all_failed:
        yield (
            "CRITICAL: all LLM keys failed",
            "Look at llm.providers for the reason of each, and set a key that works",
        )
    if not settings.flags.auto_healing:
        yield "WARNING: auto healing is switched off", ""
    if not settings.flags.auto_detection:
        yield "WARNING: auto detection is switched off: alerts are recorded, not matched", ""
    for one in seen.pauses:
        yield f"WARNING: {one.scope} is paused by {one.by}: {one.reason}", ""
    file = service.config.pause_file
    if file is not None and file.exists():
        yield f"WARNING: everything is paused, since {file} exists", f"Remove {file}"
