"""`promheal alerts`: what fires, and which strategies match."""

from __future__ import annotations

import click
import msgspec

from receiver.cli import paging
from receiver.cli.api import Api, api
from receiver.cli.output import moment


class _Alert(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    labels: dict[str, str]
    starts_at: float
    last_seen: float
    strategies: list[str] = []


class _Alerts(msgspec.Struct, frozen=True, kw_only=True):
    alerts: list[_Alert]
    next: int | None = None


@click.command("alerts")
@paging.by_offset
@api
def command(limit: int, offset: int | None, api: Api) -> None:
    """List what fires, as Alertmanager said, oldest first, with the strategies that match."""
    api.get("/api/alerts", _Alerts, _text, limit=limit, offset=offset)


def _text(page: _Alerts) -> str:
    rows = [
        [
            moment(alert.starts_at),
            moment(alert.last_seen),
            ", ".join(alert.strategies) or "-",
            _labels(alert.labels),
        ]
        for alert in page.alerts
    ]
    header = ["SINCE", "LAST SEEN", "STRATEGIES", "ALERT"]
    return paging.listing(
        rows, header, empty="nothing fires", option="--offset", following=page.next
    )


def _labels(labels: dict[str, str]) -> str:
    rest = ", ".join(f'{n}="{v}"' for n, v in sorted(labels.items()) if n != "alertname")
    return f"{labels.get('alertname', '')}{{{rest}}}"
