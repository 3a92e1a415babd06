"""`promheal run ID`: what happened, step by step, and why."""

from __future__ import annotations

from typing import Any

import click

from receiver.cli.api import Api, api
from receiver.cli.output import moment, table
from receiver.cli.values import RunId
from receiver.log import escape
from receiver.policy.duration import format_duration


@click.command("run")
@click.argument("number", metavar="ID", type=RunId("promheal runs"))
@api
def command(number: int, api: Api) -> None:
    """Show run ID: what was decided, every step, and what Prometheus said."""
    api.get(f"/api/runs/{number}", dict[str, Any], _text)


def _text(run: dict[str, Any]) -> str:
    result = run["outcome"] or run["state"]
    lines = [f"run {run['id']}: {run['strategy']} on {escape(run['target'])}: {result}"]
    if run["reason"]:
        lines.append(f"  {escape(run['reason'])}")
    lines.append(
        table(
            [
                ["  notified", moment(run["notifiedAt"])],
                ["  acted", moment(run["actedAt"])],
                ["  finished", moment(run["finishedAt"])],
                *([["  relapsed", moment(run["relapsedAt"])]] if run["relapsedAt"] else []),
            ]
        )
    )
    if run["decisions"]:
        lines += ["decisions", table([_decision(decision) for decision in run["decisions"]])]
    if run["steps"]:
        lines += ["steps", table([_step(step) for step in run["steps"]])]
        lines += [
            f"  output of {step['action']}:\n    " + _indented(step["result"]["output"])
            for step in run["steps"]
            if step["result"].get("output")
        ]
    lines += [
        f"  snapshot: {escape(step['result']['path'])}, {step['result']['bytes']} bytes, "
        f"sha256 {step['result']['sha256']}"
        for step in run["steps"]
        if step["action"] == "snapshot" and step["result"].get("path")
    ]
    if run["observations"]:
        lines += [f"verification: {escape(run['verify']['query'] or 'no query')}"]
        lines.append(
            table(
                [
                    ["  " + moment(one["at"]), one["verdict"], _number(one["value"]), one["detail"]]
                    for one in run["observations"]
                ]
            )
        )
    return "\n".join(lines)


def _decision(decision: dict[str, Any]) -> list[object]:
    times = f"{decision['times']} times" if decision["times"] > 1 else ""
    episode = decision.get("episode")  # an older server does not say
    return [
        "  " + moment(decision["at"]),
        decision["verdict"],
        decision["reason"],
        decision["detail"],
        "" if episode is None else f"episode {episode}",
        times,
    ]


def _step(step: dict[str, Any]) -> list[object]:
    took = step["finishedAt"]
    return [
        f"  {step['index'] + 1}",
        "undo" if step["phase"] == "rollback" else "",
        step["action"],
        step["state"],
        "" if took is None else format_duration(took - step["startedAt"]),
        step["error"],
    ]


def _indented(text: str) -> str:
    return "\n    ".join(escape(line) for line in text.rstrip().splitlines())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
