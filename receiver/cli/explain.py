"""`promheal explain`: why it acted or would act, or why not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from receiver.app import Promheal, build
from receiver.cli import BROKEN, FINE, explained
from receiver.cli import options as shared
from receiver.cli.alert_file import read_alert_file
from receiver.cli.loading import there
from receiver.cli.output import moment, show, table
from receiver.healing.delivery_alerts import tells_the_way
from receiver.journal import Episode
from receiver.policy.alert import Alert, Status
from receiver.policy.decide import Decision
from receiver.policy.guards.situation import Answer, Verdict
from receiver.policy.strategy import Strategy

_MARKS = {Answer.ALLOW: "✓", Answer.WAIT: "…", Answer.DENY: "✗"}


@click.command("explain")
@click.argument("about", nargs=-1, required=True, metavar="FILE | ABOUT…")
@click.option(
    "--at",
    type=explained.Moment(),
    metavar="TIME",
    help="The decision that was in force then: 2026-01-31T12:00:00Z, or seconds since the epoch.",
)
@shared.config_file
@shared.storage_url
@shared.output
def command(
    about: tuple[str, ...], at: float | None, config_file: Path, storage_url: str, output: str
) -> int:
    """Show why it was decided so, or for each alert of FILE what is said to it now.

    ABOUT is run:ID, decision:ID, alert:FINGERPRINT, or matchers of labels such as service=checkout.
    The guards are asked once more what they say to what the decision rested on: each answer, the
    fewest facts that would have turned it, and when time alone would have. Exit code 2 when this
    promheal decides otherwise than the one that did.

    FILE is a payload of Alertmanager, or {"timestamp", "metric", "value", "severity", …}. No alert
    and no decision is written down, and nothing is done. The history is the journal's; without one
    it is empty.
    """
    file = Path(about[0])
    if len(about) > 1 or (explained.is_about(about[0]) and not file.exists()):
        return _stored(about, at, storage_url, output)
    if at is not None:
        raise click.UsageError("--at is for what was decided; a file is explained as of now")
    if not file.exists():
        raise click.UsageError(
            f"no file {file}; of what was decided write run:ID, decision:ID, alert:FINGERPRINT, "
            "or LABEL=VALUE"
        )
    alerts = read_alert_file(file).notification.alerts
    with _service(config_file, storage_url) as service:
        answers = {"alerts": [_explain(service, alert) for alert in alerts]}
    show(answers, output, lambda: _text(answers))
    return FINE


def _stored(about: tuple[str, ...], at: float | None, storage_url: str, output: str) -> int:
    with there(storage_url) as journal:
        found = explained.found(journal, about, at)
    decisions = {"decisions": [one.told() for one in found]}
    show(decisions, output, lambda: explained.text(found))
    return BROKEN if any(one.differs for one in found) else FINE


@contextmanager
def _service(config_file: Path, storage_url: str) -> Iterator[Promheal]:
    """Yield a service that is never started, on an empty journal if there is none."""
    path = Path(storage_url.partition(":///")[2])
    with tempfile.TemporaryDirectory() as folder:
        url = storage_url if path.exists() else f"sqlite:///{folder}/empty.db"
        service = build(shared.options(config_file, url))
        try:
            yield service
        finally:
            service.journal.close()


def _explain(service: Promheal, alert: Alert) -> dict[str, Any]:
    return {
        "fingerprint": alert.fingerprint,
        "status": alert.status,
        "labels": alert.labels,
        "strategies": [
            _answers(service, strategy, alert) for strategy in service.config.strategies
        ],
    }


def _answers(service: Promheal, strategy: Strategy, alert: Alert) -> dict[str, Any]:
    target = strategy.target_of(alert)
    aside = tells_the_way(alert)
    if aside or target is None or not strategy.matches(alert):
        missing = [name for name in strategy.target if not alert.labels.get(name)]
        failed = [str(matcher) for matcher in strategy.match if not matcher.matches(alert.labels)]
        why = [f"does not match {matcher}" for matcher in failed]
        why += ["it tells of the way here, and is never decided"] if aside else []
        why += [f"has no label {name}, which the target needs" for name in missing]
        return {
            "strategy": strategy.name,
            "matched": False,
            "why": why,
            "target": None,
            "verdict": None,
            "reason": None,
            "until": None,
            "guards": [],
        }
    now = service.clock()
    episode = Episode(
        id=0, alert=alert, sender="", first_seen=now, last_seen=now, notifications=1
    )  # fmt: skip
    firing = alert.status is Status.FIRING
    decision: Decision = service.reconciler.weigh(strategy, target, [episode] if firing else [])
    return {
        "strategy": strategy.name,
        "matched": True,
        "target": target,
        **_verdict(decision.verdict),
        "guards": [
            {"guard": answer.guard, **_verdict(answer.verdict)} for answer in decision.answers
        ],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.answer,
        "reason": verdict.reason,
        "until": verdict.until,
        "detail": verdict.detail,
    }


def _text(explained: dict[str, Any]) -> str:
    lines = []
    for alert in explained["alerts"]:
        labels = ", ".join(f'{name}="{value}"' for name, value in sorted(alert["labels"].items()))
        lines.append(f"{alert['status']}  {{{labels}}}")
        for said in alert["strategies"]:
            if not said["matched"]:
                lines.append(f"  - {said['strategy']}: {'; '.join(said['why'])}")
                continue
            reason = f" ({said['reason']})" if said["reason"] else ""
            lines.append(
                f"  {_MARKS[said['verdict']]} {said['strategy']} on {said['target']}: "
                f"{said['verdict']}{reason}"
            )
            rows = [
                [
                    "     " + _MARKS[guard["verdict"]],
                    guard["guard"],
                    guard["reason"] or "",
                    "" if guard["until"] is None else f"until {moment(guard['until'])}",
                    guard["detail"],
                ]
                for guard in said["guards"]
            ]
            lines.append(table(rows))
    return "\n".join(lines)
