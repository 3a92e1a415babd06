"""`promheal alerts`: what fires, and who would heal it?"""

from __future__ import annotations

import click
import msgspec

from receiver.cli import client
from receiver.cli import options as shared
from receiver.cli.client import Server
from receiver.cli.output import moment, paged, show, table


class _Alert(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    labels: dict[str, str]
    starts_at: float
    last_seen: float
    strategies: list[str] = []


class _Alerts(msgspec.Struct, frozen=True, kw_only=True):
    alerts: list[_Alert]
    next: int | None = None


@click.command("alerts")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.option("--offset", type=click.IntRange(0), help="Leave out so many: the next page.")
@client.server
@shared.output
def command(limit: int, offset: int | None, server: Server, output: str) -> None:
    """List what fires, as Alertmanager said, oldest first, with the strategies that match."""
    answer = server.get("/api/alerts", limit=limit, offset=offset)
    show(answer, output, lambda: _text(client.understood(answer, _Alerts)))


def _text(page: _Alerts) -> str:
    if not page.alerts:
        return "nothing fires"
    rows = [
        [
            moment(alert.starts_at),
            moment(alert.last_seen),
            ", ".join(alert.strategies) or "-",
            _labels(alert.labels),
        ]
        for alert in page.alerts
    ]
    return paged(table(rows, ["SINCE", "LAST SEEN", "STRATEGIES", "ALERT"]), "--offset", page.next)


def _labels(labels: dict[str, str]) -> str:
    rest = ", ".join(f'{n}="{v}"' for n, v in sorted(labels.items()) if n != "alertname")
    return f"{labels.get('alertname', '')}{{{rest}}}"
