"""`promheal audit`: who changed what, and why."""

from __future__ import annotations

import click
import msgspec

from receiver.cli import paging
from receiver.cli.api import Api, api
from receiver.cli.output import moment


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
@paging.by_id("changes")
@api
def command(limit: int, before: int | None, api: Api) -> None:
    """List what people changed on a running server, newest first."""
    api.get("/api/audit", _Audit, _text, limit=limit, before=before)


def _text(page: _Audit) -> str:
    rows = [
        [one.id, moment(one.at), one.by, one.action, one.object, one.reason, one.detail]
        for one in page.audit
    ]
    header = ["ID", "AT", "BY", "ACTION", "OBJECT", "REASON", "DETAIL"]
    return paging.listing(
        rows, header, empty="nobody changed anything", option="--before", following=page.next
    )
