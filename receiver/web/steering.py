"""The API that changes things: pause, resume, reset, approve, reject, cancel, background tasks.

Bodies are JSON with `Content-Type: application/json`, which a form on another site cannot send.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, TypeVar

import msgspec
from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.routing import BaseConverter

from receiver.app import Promheal
from receiver.errors import RefusedError
from receiver.healing.control import checked_reason
from receiver.healing.coverage import Coverage
from receiver.policy.duration import parse_duration
from receiver.web import status
from receiver.web.api import summary
from receiver.web.query import MAX_ID
from receiver.yaml.diagnostics import quoted, suggestion

MAX_BODY: Final = 64 * 1024
MAX_PAUSE: Final = 366 * 86_400.0
"""Seconds; anything longer is a pause until someone resumes."""
SHOWN: Final = 20
"""Targets and runs that the answer to a pause lists."""


_WHY: Final = "the disk is replaced"


class ReasonBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    example: ClassVar = {"reason": _WHY}
    reason: str


class OptionalReasonBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    example: ClassVar = {"reason": _WHY}
    reason: str = ""


class PauseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    example: ClassVar = {"reason": _WHY, "for": "30m", "scope": "all"}
    reason: str
    duration: str | None = msgspec.field(name="for", default=None)
    scope: str = "all"
    even_if_unknown: bool = msgspec.field(name="evenIfUnknown", default=False)


class ResumeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    example: ClassVar = {"reason": _WHY, "scope": "all"}
    reason: str
    scope: str = "all"


class ResetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    example: ClassVar = {"reason": _WHY, "force": True}
    reason: str = ""
    force: bool = False


T = TypeVar("T", ReasonBody, OptionalReasonBody, PauseBody, ResumeBody, ResetBody)


class TaskConverter(BaseConverter):
    """The id of a task, but not the words that change all of them."""

    regex = r"(?!(?:pause|resume|cleanup)\Z)[^/]+"


def blueprint(service: Promheal) -> Blueprint:  # noqa: C901  one function a route
    routes = Blueprint("steering", __name__)
    control, background = service.control, service.background

    @routes.post("/api/system/heal/resume")
    def resume() -> Response:
        body = _body(ResumeBody)
        resumed = control.resume(by=user(), reason=body.reason, scope=body.scope)
        return jsonify(
            {
                "dormancyEnded": resumed.dormancy_ended,
                "pausesLifted": [status.pause(one) for one in resumed.pauses],
                "staysPaused": [status.pause(one) for one in resumed.stay],
            }
        )

    @routes.post("/api/system/heal/pause")
    def pause() -> tuple[Response, int]:
        body = _body(PauseBody)
        paused = control.pause(
            by=user(),
            reason=body.reason,
            scope=body.scope,
            seconds=seconds(body.duration),
            even_if_unknown=body.even_if_unknown,
        )
        return jsonify({**status.pause(paused.pause), "covers": covers(paused.covers)}), 201

    @routes.post("/api/runs/<int:number>/<any(approve, reject, cancel):wish>")
    def steer(number: int, wish: str) -> Response:
        body = _body(ReasonBody)
        if number > MAX_ID:
            raise RefusedError(f"no run {number}", status=404, among="runs")
        act = {"approve": control.approve, "reject": control.reject, "cancel": control.cancel}
        return jsonify(summary(act[wish](number, by=user(), reason=body.reason)))

    @routes.post("/api/breakers/<path:name>/reset")
    def reset(name: str) -> Response:
        body = _body(ResetBody)
        found, breaker = control.reset(name, by=user(), reason=body.reason, force=body.force)
        return jsonify(status.breaker(found, breaker, service.clock()))

    @routes.post("/api/tasks/<any(pause, resume, cleanup):wish>")
    def steer_tasks(wish: str) -> Response:
        reason = _reason(_body(OptionalReasonBody).reason)
        more: dict[str, Any] = {}
        control.note(f"{wish} tasks", "tasks", by=user(), reason=reason)
        if wish == "cleanup":
            removed, registered = background.cleanup()
            more = {"removed": list(removed), "registered": list(registered)}
        elif wish == "pause":
            background.pause_all()
        else:
            background.resume_all()
        return jsonify({"tasks": status.tasks(service), **more})

    @routes.delete("/api/tasks/<task:task>")
    def remove_task(task: str) -> Response:
        reason = _reason(request.args.get("reason", ""))
        known = [one.id for one in background.tasks]
        if task not in known:
            said = f"no task {quoted(task)}{suggestion(task, known)}"
            raise RefusedError(said, status=404, among="tasks")
        control.note("remove task", task, by=user(), reason=reason)
        background.unregister(task)
        return jsonify({"removed": task})

    return routes


def covers(covered: Coverage) -> dict[str, Any]:
    """Return what a pause covers now: all counts, and the first of each list."""

    def some(of: Sequence[object]) -> dict[str, Any]:
        return {"count": len(of), "first": of[:SHOWN]}

    return {
        "strategies": covered.strategies,
        "alerts": covered.alerts,
        "targets": some(covered.targets),
        "runsUnderWay": some(covered.under_way),
        "runsWaiting": some(covered.waiting),
    }


def user() -> str:
    """Return the user whom access control authenticated."""
    return str(request.environ.get("promheal.user", "anonymous"))


def seconds(text: str | None) -> float | None:
    """Return the seconds of a duration; raises BadRequest."""
    if text is None:
        return None
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise BadRequest(f"for: {error}") from None
    if not 0 < found <= MAX_PAUSE:
        raise BadRequest("for: more than nothing and up to 366d; leave it out to pause until then")
    return found


def _body(kind: type[T]) -> T:
    """Return the request's body. Raises a 400, 413 or 415."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("send a JSON object with Content-Type: application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("send the JSON object plain, without Content-Encoding")
    body = request.stream.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise RequestEntityTooLarge(f"the body exceeds {MAX_BODY} bytes")
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        example = msgspec.json.encode(kind.example).decode()
        raise BadRequest(f"the body: {error}; send for example {example}") from None


def _reason(text: str) -> str:
    try:
        return checked_reason(text) if text.strip(" ") else ""
    except RefusedError as error:
        raise BadRequest(str(error)) from None
