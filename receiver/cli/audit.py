"""`promheal audit`: who changed what, and why?"""

from __future__ import annotations

import click
import msgspec

from receiver.cli import client
from receiver.cli import options as shared
from receiver.cli.client import Server
from receiver.cli.output import moment, paged, show, table


class _Change(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    at: float
    by: str
    action: str
    object: str
    reason: str
    detail: str = ""


class _Audit(msgspec.Struct, frozen=True, kw_only=True):
    audit: list[_Change]
    next: int | None = None


@click.command("audit")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option(
    "--before", type=click.IntRange(1), help="Only changes older than this id: the next page."
)
@client.server
@shared.output
def command(limit: int, before: int | None, server: Server, output: str) -> None:
    """List what people changed on a running server, newest first."""
    answer = server.get("/api/audit", limit=limit, before=before)
    show(answer, output, lambda: _text(client.understood(answer, _Audit)))


def _text(page: _Audit) -> str:
    if not page.audit:
        return "nobody changed anything"
    rows = [
        [one.id, moment(one.at), one.by, one.action, one.object, one.reason, one.detail]
        for one in page.audit
    ]
    return paged(
        table(rows, ["ID", "AT", "BY", "ACTION", "OBJECT", "REASON", "DETAIL"]),
        "--before",
        page.next,
    )
