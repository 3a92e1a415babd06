"""`promheal status`: how is the healer?"""

from __future__ import annotations

from typing import Any

import click

from receiver.cli import FINDINGS, FINE, client
from receiver.cli import options as shared
from receiver.cli.output import show, table


@click.command("status")
@client.url
@shared.output
def command(url: str, output: str) -> int:
    """Show how a running server is. Exit code 1 when it is not healthy."""
    status = client.get(url, "/api/status")
    show(status, output, lambda: _text(status))
    return FINE if status["status"] == "healthy" else FINDINGS


def _text(status: dict[str, Any]) -> str:
    healing = status["selfHealing"]
    runs = ", ".join(f"{number} {state}" for state, number in status["runs"].items() if number)
    rows: list[list[object]] = [
        ["status", status["status"]],
        ["healing", "on" if healing["enabled"] else "off"],
        ["alerts firing", status["alerts"]["firing"]],
        ["runs under way", runs or "none"],
        ["healed", f"{healing['successfulHealings']} of {healing['totalAttempts']} attempts"],
        ["failed", healing["failedHealings"]],
        ["configuration", status["config"]["hash"][:12]],
    ]
    return "\n".join([table(rows), *status["issues"], *status["recommendations"]])
