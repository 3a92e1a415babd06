"""The API that reads: status, alerts, runs and everything else, as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from math import isfinite
from typing import Any, Final, TypeVar

import msgspec
from flask import Blueprint, Response, jsonify, request

from receiver import snapshots
from receiver.app import Promheal
from receiver.errors import RefusedError
from receiver.healing.explaining import explain_one
from receiver.journal import Audit, DecisionRecord, Episode
from receiver.policy.looks import wait_of
from receiver.policy.run import Observation, Run
from receiver.web import query, status
from receiver.web.answers import error

_CAMEL: Final = re.compile("_([a-z])")
_ROOT: Final = b"url: /\n"
"""The URL of the server in the contract."""


def blueprint(service: Promheal) -> Blueprint:  # noqa: C901  one function a route
    routes = Blueprint("api", __name__)

    @routes.get("/api/status")
    def current() -> Response:
        return jsonify(status.status(service, *status.look(service)))

    @routes.get("/api/alerts")
    def alerts() -> Response:
        query.only({"limit", "offset"})
        limit, offset = query.limit(), query.number("offset", 0, 0, 10**9)
        episodes = service.journal.read(lambda t: t.open_episodes(limit=limit, offset=offset))
        strategies = service.config.strategies
        return jsonify(
            {
                "alerts": [
                    _alert(episode, [s.name for s in strategies.select(episode.alert)])
                    for episode in episodes
                ],
                "next": offset + limit if len(episodes) == limit else None,
            }
        )

    @routes.get("/api/runs")
    def runs() -> Response:
        query.only({"limit", "before", "strategy", "state", "outcome"})
        limit, before = query.cursor()
        strategy = query.strategy(service)
        state, outcome = query.word("state"), query.word("outcome")
        found = service.journal.read(
            lambda t: t.runs(
                limit=limit, before=before, strategy=strategy, state=state, outcome=outcome
            )
        )
        return _page("runs", found, limit, summary)

    @routes.get("/api/runs/<int:number>")
    def one_run(number: int) -> Response:
        run, decisions, observations = service.journal.read(
            lambda t: (
                (t.run(number), t.decisions(number), t.observations(number))
                if number <= query.MAX_ID
                else (None, [], [])
            )
        )
        if run is None:
            raise RefusedError(f"no run {number}", status=404, among="runs")
        return jsonify(
            {
                **summary(run),
                "alert": None if run.plan is None else _camel(run.plan.alert),
                "verify": None if run.plan is None else _verify(run),
                "steps": [_shown(step) for step in run.steps],
                "decisions": [_shown(decision) for decision in decisions],
                "observations": [_observed(one) for one in observations],
            }
        )

    @routes.get("/api/runs/<int:number>/snapshots/<int:step>")
    def snapshot(number: int, step: int) -> Response:
        try:
            kept = snapshots.read(snapshots.path_of(service.folder, number, step))
        except (OSError, OverflowError):
            return error("not_found", f"no snapshot of step {step} of run {number}", 404)
        return Response(msgspec.json.encode(kept), content_type="application/json")

    @routes.get("/api/decisions")
    def decisions() -> Response:
        query.only({"limit", "before", "strategy"})
        limit, before = query.cursor()
        strategy = query.strategy(service)
        found = service.journal.read(
            lambda t: t.latest_decisions(limit=limit, before=before, strategy=strategy)
        )
        return _page("decisions", found, limit, _shown)

    @routes.get("/api/decisions/<int:number>")
    def one_decision(number: int) -> Response:
        known = number <= query.MAX_ID
        found = explain_one(service.journal, number, service.actions) if known else None
        if found is None:
            raise RefusedError(f"no decision {number}", status=404, among="decisions")
        return jsonify(found.told())

    @routes.get("/api/strategies")
    def strategies() -> Response:
        return jsonify(
            {
                "strategies": [
                    {
                        "name": strategy.name,
                        "description": strategy.description,
                        "match": [str(matcher) for matcher in strategy.match],
                        "target": list(strategy.target),
                        "mode": str(strategy.mode),
                        "preventive": strategy.preventive,
                        "actions": [step.action for step in strategy.actions],
                    }
                    for strategy in service.config.strategies
                ]
            }
        )

    @routes.get("/api/breakers")
    def breakers() -> Response:
        remembered = service.journal.read(lambda t: t.breakers())
        return jsonify({"breakers": status.breakers(service, remembered, service.clock())})

    @routes.get("/api/pauses")
    def pauses() -> Response:
        now = service.clock()
        standing = service.journal.read(lambda t: t.pauses(now=now))
        return jsonify({"pauses": [status.pause(one) for one in standing]})

    @routes.get("/api/tasks")
    def tasks() -> Response:
        return jsonify({"tasks": status.tasks(service)})

    @routes.get("/api/flags")
    def flags() -> Response:
        return jsonify({"flags": status.flags(service)})

    @routes.get("/api/services")
    def services() -> Response:
        return jsonify({"services": status.services(service)})

    @routes.get("/api/audit")
    def audit() -> Response:
        query.only({"limit", "before"})
        limit, before = query.cursor()
        found = service.journal.read(lambda t: t.audits(limit=limit, before=before))
        return _page("audit", found, limit, _shown)

    @routes.get("/openapi.yaml")
    def contract() -> Response:
        text = files("receiver.web").joinpath("openapi.yaml").read_bytes()
        if request.script_root:
            text = text.replace(_ROOT, b"url: %b/\n" % request.script_root.encode(), 1)
        return Response(text, content_type="application/yaml; charset=utf-8")

    return routes


Row = TypeVar("Row", Run, DecisionRecord, Audit)


def _page(
    name: str, found: Sequence[Row], limit: int, show: Callable[[Row], dict[str, Any]]
) -> Response:
    """Answer with a page of a list; `next` is the `before` of the one behind it."""
    following = found[-1].id if len(found) == limit else None
    return jsonify({name: [show(one) for one in found], "next": following})


def _alert(episode: Episode, strategies: list[str]) -> dict[str, Any]:
    return {
        "episode": episode.id,
        "fingerprint": episode.alert.fingerprint,
        "labels": episode.alert.labels,
        "annotations": episode.alert.annotations,
        "startsAt": episode.alert.starts_at,
        "firstSeen": episode.first_seen,
        "lastSeen": episode.last_seen,
        "notifications": episode.notifications,
        "strategies": strategies,
    }


def summary(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "strategy": run.strategy,
        "target": run.target,
        "state": run.state,
        "outcome": run.outcome,
        "reason": run.reason,
        "until": run.until,
        "createdAt": run.created_at,
        "notifiedAt": run.notified_at,
        "actedAt": run.acted_at,
        "verifyFrom": run.verify_from,
        "finishedAt": run.finished_at,
        "configHash": run.config_hash,
        "askedAt": run.asked_at,
        "approvedAt": run.approved_at,
        "cancel": run.cancel or None,
        "doubt": run.doubt,
        "relapsedAt": run.relapsed_at,
    }


def _shown(value: msgspec.Struct) -> dict[str, Any]:
    return _camel(msgspec.structs.asdict(value))


def _camel(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* with camel-case names: `startedAt`. The values are not changed."""
    return {_CAMEL.sub(lambda found: found[1].upper(), name): v for name, v in values.items()}


def _observed(one: Observation) -> dict[str, Any]:
    """Return one answer of Prometheus; JSON has no infinity and no NaN."""
    finite = one.value is not None and isfinite(one.value)
    return {**_shown(one), "value": one.value if finite else None}


def _verify(run: Run) -> dict[str, Any]:
    assert run.plan is not None
    wait = None if run.verify_from is None else wait_of(run.plan, run.verify_from)
    return {
        "reach": wait.reach if wait is not None and isfinite(wait.reach) else None,
        "deadline": None if wait is None else wait.deadline,
        "hold": run.plan.verify_hold,
        "within": run.plan.verify_within,
        "query": run.plan.verify_query or run.plan.alert.get("expression"),
        "expect": run.plan.verify_expect,
    }
