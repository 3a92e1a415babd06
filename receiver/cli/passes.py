"""One pass over alerts from a file: decide, act, verify, record. What `once` and `watch` share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, Final, TypeVar

import click
import msgspec

from receiver.app import Promheal, build
from receiver.cli import options as shared
from receiver.cli import values
from receiver.cli.output import moment, table
from receiver.errors import ConfigError, JournalError
from receiver.journal import Episode
from receiver.policy.alert import Alert, Notification, Status
from receiver.policy.authority import FILE
from receiver.policy.guards.situation import Answer, Reason
from receiver.policy.role import At
from receiver.policy.run import Outcome, State
from receiver.policy.strategy import Strategy
from receiver.policy.target import Key

F = TypeVar("F", bound=Callable[..., Any])
Results = list[dict[str, Any]]

log: Final = logging.getLogger("promheal.once")

GOOD: Final = frozenset({Outcome.HEALED, Answer.ALLOW})
"""The results of a strategy that healed its target, or in a dry run would act."""


def options(*, too_old: str, must_exist: bool) -> Callable[[F], F]:
    """Return what adds the options of a pass; *too_old* says what becomes of alerts that are."""
    shown = (
        click.option(
            "--alerts",
            "file",
            type=click.Path(path_type=Path, dir_okay=False, exists=must_exist),
            required=True,
            help="A payload of Alertmanager, or readings.",
        ),
        click.option(
            "--max-age",
            type=values.DURATION,
            default="5m",
            show_default=True,
            help=f"{too_old} alerts that are older than this.",
        ),
        shared.config_file,
        shared.storage_url,
        click.option(
            "--dry-run", is_flag=True, help="Say what would be done; do and record nothing."
        ),
        shared.output,
        shared.logging_options,
    )

    def with_options(function: F) -> F:
        for option in reversed(shown):
            function = option(function)
        return function

    return with_options


@contextmanager
def acting_service(config_file: Path, storage_url: str, *, dry_run: bool) -> Iterator[Promheal]:
    """Yield a service that is not started: we carry its runs, and nobody else acts beside us.

    Raises JournalError while a server acts on the journal, and ConfigError for a journal on which
    several may act. A dry run takes no lock.
    """
    given = shared.options(config_file, storage_url)
    service = build(msgspec.structs.replace(given, takes_files=True))
    try:
        if not dry_run:
            if service.journal.shared:
                raise ConfigError(
                    f"--storage.url {storage_url}: there others act beside each other; post the "
                    "alerts to a receiver, or name a file of your own: sqlite:///PATH"
                )
            if not service.journal.acquire():
                raise JournalError(
                    f"a server acts on {storage_url}, and one at a time may; let Alertmanager tell "
                    "it, or name a journal of your own with --storage.url"
                )
            service.intake.matching.run()
        if not service.config.settings.flags.auto_detection:
            log.warning("auto detection is switched off: no strategy is asked")
        yield service
    finally:
        service.journal.close()


def take(
    service: Promheal, notification: Notification, *, dry_run: bool, ending: Event | None = None
) -> Results:
    """Take alerts through the whole way, or say what would be done; return each result.

    Once *ending* is set, nothing begins and nothing is waited for: the next process that acts on
    the journal resumes what is under way.
    """
    applying = _applying(service, notification)
    if dry_run:
        return [_weigh(service, *one) for one in applying]
    service.intake.admit(msgspec.structs.replace(notification, user=FILE))
    return carry(service, [Key(strategy.name, target) for strategy, target, _ in applying], ending)


def _applying(
    service: Promheal, notification: Notification
) -> list[tuple[Strategy, str, list[Alert]]]:
    """Return each strategy that applies, its target, and the alerts that it applies to."""
    found: dict[Key, tuple[Strategy, str, list[Alert]]] = {}
    for alert in notification.alerts:
        if alert.status is Status.FIRING:
            for strategy in service.intake.strategies().select(alert):
                target = strategy.target_of(alert)
                assert target is not None  # it was selected
                _, _, asking = found.setdefault(Key(strategy.name, target), (strategy, target, []))
                asking.append(alert)
    return list(found.values())


def _weigh(
    service: Promheal, strategy: Strategy, target: str, alerts: list[Alert]
) -> dict[str, Any]:
    now = service.clock()
    episodes = [
        Episode(
            id=0,
            alert=alert,
            sender="",
            vouched_by=FILE,
            vouched_link=alert.generator_url,
            first_seen=now,
            last_seen=now,
            notifications=1,
        )
        for alert in alerts
    ]
    verdict = service.reconciler.weigh(strategy, target, episodes).verdict
    return {
        "strategy": strategy.name,
        "target": target,
        "result": verdict.answer,
        "reason": verdict.reason or "",
        "until": verdict.until,
        "detail": verdict.detail,
        "run": None,
        "actions": [step.action for step in strategy.actions],
    }


def carry(service: Promheal, keys: Iterable[Key], ending: Event | None = None) -> Results:
    """Carry each key to its end; targets in parallel, each target in turn."""
    ending = ending or Event()
    lines: dict[str, list[Key]] = {}
    for key in keys:
        lines.setdefault(key.target, []).append(key)

    def in_turn(line: list[Key]) -> Results:
        return [_carry(service, key, ending) for key in line if not ending.is_set()]

    with ThreadPoolExecutor(service.config.settings.engine.max_concurrent_runs) as pool:
        try:
            return [result for results in pool.map(in_turn, lines.values()) for result in results]
        except BaseException:  # Ctrl-C must not wait for a verification
            ending.set()
            raise


def _carry(service: Promheal, key: Key, ending: Event) -> dict[str, Any]:
    before, requested = service.journal.read(lambda t: (t.last_run(key), t.wanted(key)))
    if requested is None and (before is None or before.outcome is not None):
        return _result(key, Answer.DENY, Reason.RESOLVED, None, None)  # the journal knows its end
    while True:
        again = service.reconciler.consider(key)
        run = service.journal.read(lambda t: t.last_run(key))
        if run is None or (before is not None and run.id <= before.id and before.outcome):
            decision = service.journal.read(lambda t: t.last_decision(key))
            assert decision is not None  # it applies, so it was decided
            return _result(key, decision.verdict, decision.reason, None, None, decision.detail)
        if run.outcome is not None:
            return _result(key, run.outcome, run.reason, None, run.id)
        if run.state is State.PENDING or not isinstance(again, At):
            decision = service.journal.read(lambda t: t.last_decision(key))
            why = "" if decision is None else decision.detail
            return _result(key, Answer.WAIT, run.reason, run.until, run.id, why)
        if ending.wait(max(0.0, again.time - service.clock())):
            return _result(key, run.state, "promheal ends; to be taken up again", None, run.id)


def _result(
    key: Key, result: str, reason: str, until: float | None, run: int | None, detail: str = ""
) -> dict[str, Any]:
    return {
        "strategy": key.strategy,
        "target": key.target,
        "result": result,
        "reason": reason,
        "until": until,
        "detail": detail,
        "run": run,
    }


def text(results: Results) -> str:
    if not results:
        return "no strategy applies: `promheal explain` says why"
    rows = [
        [
            result["strategy"],
            result["target"],
            result["result"],
            result["reason"],
            "" if result["until"] is None else f"until {moment(result['until'])}",
            ", ".join(result.get("actions", [])),
            result["detail"],
        ]
        for result in results
    ]
    return table(rows)
