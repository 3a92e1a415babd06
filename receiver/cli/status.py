"""`promheal status`: what stops it, what it waits for, what a person should do."""

from __future__ import annotations

from collections.abc import Mapping

import click
import msgspec

from receiver.cli import FINDINGS, FINE, breakers, pause, tasks
from receiver.cli.api import Api, api, understood
from receiver.cli.output import moment, table
from receiver.log import escape


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of the status. What an older server does not tell counts as well."""


class _Healing(_Part, frozen=True, kw_only=True):
    enabled: bool
    is_dormant: bool = False
    dormant_reason: str | None = None
    dormant_since: float | None = None
    consecutive_failures: int = 0
    backoff_until: float | None = None
    total_attempts: int = 0
    successful_healings: int = 0
    failed_healings: int = 0


class _Background(_Part, frozen=True, kw_only=True):
    total_tasks: int = 0
    active_tasks: int = 0
    tasks: list[tasks.TaskStatus] = []


class _Keys(_Part, frozen=True, kw_only=True):
    total_keys: int = 0
    active_keys: int = 0
    failed_keys: int = 0


class _Key(_Part, frozen=True, kw_only=True):
    name: str
    state: str
    detail: str = ""


class _Provider(_Part, frozen=True, kw_only=True):
    name: str
    keys: list[_Key] = []


class _Llm(_Part, frozen=True, kw_only=True):
    key_management: _Keys = _Keys()
    providers: list[_Provider] = []


class _Service(_Part, frozen=True, kw_only=True):
    name: str
    state: str
    detail: str = ""


class _Alerts(_Part, frozen=True, kw_only=True):
    firing: int = 0


class _Worker(_Part, frozen=True, kw_only=True):
    host: str
    runs_on: list[str] = []
    version: str = ""
    seen: float = 0.0


class _Journal(_Part, frozen=True, kw_only=True):
    state: str = "sound"


class _Need(_Part, frozen=True, kw_only=True):
    severity: str
    title: str
    why: str = ""
    advice: str = ""
    command: str = ""


class _Config(_Part, frozen=True, kw_only=True):
    hash: str = ""


class _Backup(_Part, frozen=True, kw_only=True):
    at: float | None = None
    bytes: int = 0


class _Status(_Part, frozen=True, kw_only=True):
    status: str
    self_healing: _Healing
    circuit_breakers: list[breakers.BreakerStatus] = []
    background_tasks: _Background = _Background()
    llm: _Llm = _Llm()
    services: list[_Service] = []
    flags: dict[str, bool] = {}
    pauses: list[pause.PauseStatus] = []
    alerts: _Alerts = _Alerts()
    runs: dict[str, int] = {}
    waiting: dict[str, int] = {}
    workers: list[_Worker] = []
    journal: _Journal = _Journal()
    backup: _Backup | None = None
    config: _Config = _Config()
    needs: list[_Need] | None = None
    """None from an older server, which tells `issues` and `recommendations` only."""
    issues: list[str] = []
    recommendations: list[str] = []


@click.command("status")
@api
def command(api: Api) -> int:
    """Show how a running server is: what stops it, what it waits for, what a person should do.

    Exit code 0 when it is healthy, 1 when it is not, 2 when it cannot be asked.
    """
    status = understood(api.get("/api/status", _Status, _text), _Status)
    return FINE if status.status == "healthy" else FINDINGS


def _text(status: _Status) -> str:
    healing, background = status.self_healing, status.background_tasks
    keys = status.llm.key_management
    rows: list[list[object]] = [
        ["status", status.status],
        ["healing", _healing(healing)],
        ["targets failed in a row", _failures(healing)],
        ["healed", f"{healing.successful_healings} of {healing.total_attempts} attempts"],
        ["failed", healing.failed_healings],
        ["alerts firing", status.alerts.firing],
        ["runs under way", _numbers(status.runs)],
        ["waiting for", _numbers(status.waiting)],
        ["tasks active", f"{background.active_tasks} of {background.total_tasks}"],
        ["flags", ", ".join(f"{n} {'on' if on else 'off'}" for n, on in status.flags.items())],
        ["journal", status.journal.state],
        ["configuration", status.config.hash[:12]],
    ]
    if keys.total_keys:
        rows.append(["keys", f"{keys.active_keys} of {keys.total_keys} active"])
    if status.backup is not None:
        made = "none yet" if status.backup.at is None else moment(status.backup.at)
        rows.append(["last backup", made])
    tripped = [one for one in status.circuit_breakers if one.state != "CLOSED"]
    idle = [task for task in background.tasks if task.paused or task.last_error]
    ill = [[one.name, one.state, one.detail] for one in status.services if one.state != "running"]
    failed = [
        [provider.name, key.name, key.state, key.detail]
        for provider in status.llm.providers
        for key in provider.keys
        if key.state != "active"
    ]
    parts = [
        table(rows),
        _titled("breakers not closed", breakers.text(tripped) if tripped else ""),
        _titled(
            "workers",
            table(
                [
                    [
                        one.host,
                        ", ".join(name or "what is bound to none" for name in one.runs_on),
                        one.version,
                        moment(one.seen),
                    ]
                    for one in status.workers
                ]
            ),
        ),
        _titled("pauses", pause.text(status.pauses) if status.pauses else ""),
        _titled("tasks that do not run as they should", tasks.text(idle) if idle else ""),
        _titled("keys not active", table(failed)),
        _titled("services not running", table(ill)),
        *_needs(status),
    ]
    return "\n".join(part for part in parts if part)


def _needs(status: _Status) -> list[str]:
    """Return what needs a person, and what helps."""
    if status.needs is not None:
        return [_titled("needs you", "\n".join(map(_need, status.needs)))]
    return [
        _titled("issues", "\n".join(map(escape, status.issues))),
        _titled("recommendations", "\n".join(map(escape, status.recommendations))),
    ]


def _need(need: _Need) -> str:
    lines = [f"{need.severity.upper()}: {need.title}"]
    lines += [f"    {more}" for more in (need.why, need.advice) if more]
    if need.command:
        lines.append(f"    $ {need.command}")
    return "\n".join(map(escape, lines))


def _healing(healing: _Healing) -> str:
    if healing.is_dormant:
        return f"dormant since {moment(healing.dormant_since)}: {healing.dormant_reason or ''}"
    return "on" if healing.enabled else "off"


def _failures(healing: _Healing) -> str:
    if healing.backoff_until is None:
        return str(healing.consecutive_failures)
    until = moment(healing.backoff_until)
    return f"{healing.consecutive_failures}, nothing begins until {until}"


def _numbers(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in numbers.items() if number) or "none"


def _titled(title: str, text: str) -> str:
    """Return a part with its title, or nothing when it is empty."""
    return f"\n{title}\n  " + text.replace("\n", "\n  ") if text else ""
