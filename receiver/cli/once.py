"""`promheal once`: alerts from a file, through the whole way, once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import click

from receiver.alert import Alert, Notification, Status
from receiver.alert_file import read_alert_file
from receiver.cli import FINDINGS, FINE
from receiver.cli import options as shared
from receiver.cli.output import moment, show, table
from receiver.duration import format_duration, parse_duration
from receiver.errors import ConfigError, JournalError
from receiver.guards.situation import Answer
from receiver.journal import Episode, Key
from receiver.run import Outcome, State
from receiver.strategy import Strategy
from receiver.wiring import Service, build

_GOOD: Final = frozenset({Outcome.HEALED, Answer.ALLOW})


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return value if isinstance(value, float) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("once")
@click.option(
    "--alerts",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="A payload of Alertmanager, or readings.",
)
@click.option(
    "--max-age",
    type=_Duration(),
    default="5m",
    show_default=True,
    help="Refuse alerts that are older than this.",
)
@shared.config_file
@shared.storage_url
@click.option("--dry-run", is_flag=True, help="Say what would be done; do and record nothing.")
@shared.output
@shared.logging_options
def command(
    file: Path, max_age: float, config_file: Path, storage_url: str, *, dry_run: bool, output: str
) -> int:
    """Take the alerts of a file through the whole way, once: decide, act, verify, record.

    The file holds a payload of Alertmanager, or {"timestamp", "metric", "value", "severity", …}.
    Exit code 0 when every strategy that applies healed its target (or, with --dry-run, would act),
    1 when one did not or was not allowed to.
    """
    alerts = read_alert_file(file)
    age = time.time() - alerts.said_at  # noqa: TID251  a file's time is the wall clock's
    if age > max_age:
        raise ConfigError(
            f"{file}: {format_duration(round(age))} old; alerts older than "
            f"{format_duration(max_age)} are refused, since they may be over (--max-age)"
        )
    service = build(shared.options(config_file, storage_url))
    try:
        if dry_run:
            results = [_weigh(service, *one) for one in _applying(service, alerts.notification)]
        elif service.journal.acquire():
            results = _heal(service, alerts.notification)
        else:
            raise JournalError(
                f"a server acts on {storage_url}, and one at a time may; let Alertmanager tell it, "
                "or name a journal of your own with --storage.url"
            )
    finally:
        service.journal.close()
    show({"results": results}, output, lambda: _text(results))
    return FINE if all(result["result"] in _GOOD for result in results) else FINDINGS


def _applying(service: Service, notification: Notification) -> list[tuple[Strategy, str, Alert]]:
    """Return each strategy that applies, its target, and the alert that it applies to."""
    found = {}
    for alert in notification.alerts:
        if alert.status is Status.FIRING:
            for strategy in service.config.strategies.select(alert):
                target = strategy.target_of(alert)
                assert target is not None  # it was selected
                found[strategy.name, target] = (strategy, target, alert)
    return list(found.values())


def _weigh(service: Service, strategy: Strategy, target: str, alert: Alert) -> dict[str, Any]:
    now = service.clock()
    episode = Episode(
        id=0, alert=alert, sender="", first_seen=now, last_seen=now, notifications=1
    )  # fmt: skip
    verdict = service.reconciler.weigh(strategy, target, episode).verdict
    return {
        "strategy": strategy.name,
        "target": target,
        "result": verdict.answer,
        "reason": verdict.reason or "",
        "until": verdict.until,
        "run": None,
        "actions": [step.action for step in strategy.actions],
    }


def _heal(service: Service, notification: Notification) -> list[dict[str, Any]]:
    """Carry everything that applies to its end; targets in parallel, each target in turn."""
    service.intake.rematch()
    service.intake.admit(notification)
    lines: dict[str, list[Key]] = {}
    for strategy, target, _ in _applying(service, notification):
        lines.setdefault(target, []).append((strategy.name, target))
    most = service.config.settings.engine.max_concurrent_runs
    with ThreadPoolExecutor(most) as pool:
        done = pool.map(lambda keys: [_carry(service, key) for key in keys], lines.values())
        return [result for results in done for result in results]


def _carry(service: Service, key: Key) -> dict[str, Any]:
    before = service.journal.read(lambda t: t.last_run(key))
    while True:
        again = service.reconciler.consider(key)
        run = service.journal.read(lambda t: t.last_run(key))
        if run is None or (before is not None and run.id <= before.id and before.outcome):
            decision = service.journal.read(lambda t: t.last_decision(key))
            assert decision is not None  # it applies, so it was decided
            return _result(key, decision.verdict, decision.reason, None, None)
        if run.outcome is not None:
            return _result(key, run.outcome, run.reason, None, run.id)
        if run.state is State.PENDING or again is None:
            return _result(key, Answer.WAIT, run.reason, run.until, run.id)
        time.sleep(max(0.0, again - service.clock()))


def _result(
    key: Key, result: str, reason: str, until: float | None, run: int | None
) -> dict[str, Any]:
    return {
        "strategy": key[0],
        "target": key[1],
        "result": result,
        "reason": reason,
        "until": until,
        "run": run,
    }


def _text(results: list[dict[str, Any]]) -> str:
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
        ]
        for result in results
    ]
    return table(rows)
