"""The status page: what is going on, and the forms by which an operator changes it.

Rendered here, without a script. Each form carries a token for its user, so that no other site can
send one in the user's name; labels and reasons are hostile text, and the template escapes them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from flask import Blueprint, Response, redirect, render_template, request, url_for
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.exceptions import BadRequest, Forbidden

from receiver.control import MAX_REASON
from receiver.errors import RefusedError
from receiver.guards.situation import Reason
from receiver.journal import Transaction
from receiver.run import Run, State
from receiver.web import status
from receiver.web.steering import seconds, user
from receiver.wiring import Service

SHOWN: Final = 25
"""Rows of each list."""
FORM_AGE: Final = 12 * 3600
"""Seconds for which a form that was shown may be sent."""
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


def blueprint(service: Service) -> Blueprint:
    routes = Blueprint("page", __name__)
    signer = URLSafeTimedSerializer(secrets.token_bytes(32), salt="promheal form")
    wishes = _wishes(service)

    def page(problem: str = "", code: int = 200) -> Response:
        text = render_template(
            "status.html",
            **_shown(service),
            problem=problem,
            user=user(),
            may_change=request.environ.get("promheal.role", "operator") == "operator",
            token=signer.dumps(user()),
            max_reason=MAX_REASON,
            moment=_moment,
        )
        response = Response(text, status=code, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Referrer-Policy"] = "same-origin"
        return response

    @routes.get("/")
    def show() -> Response:
        return page()

    @routes.post("/ui/<any(pause, resume, reset, approve, reject, cancel):wish>")
    def change(wish: str) -> Response:
        _check_token(signer)
        try:
            wishes[wish](request.form)
        except (RefusedError, BadRequest) as error:
            text = error.description if isinstance(error, BadRequest) else str(error)
            return page(f"{wish}: {text}", error.status if isinstance(error, RefusedError) else 400)
        answer = redirect(url_for("page.show"), code=303)
        assert isinstance(answer, Response)
        return answer

    return routes


def _check_token(signer: URLSafeTimedSerializer) -> None:
    try:
        owner = signer.loads(request.form.get("token", ""), max_age=FORM_AGE)
    except BadSignature:
        raise Forbidden("the form is too old, or not of this page; load the page again") from None
    if owner != user():
        raise Forbidden("the form was shown to somebody else; load the page again")


def _wishes(service: Service) -> Mapping[str, Callable[[Mapping[str, str]], object]]:
    control = service.control

    def of_run(act: Callable[..., Run]) -> Callable[[Mapping[str, str]], object]:
        return lambda form: act(_run(form), by=user(), reason=form.get("reason", ""))

    return {
        "pause": lambda form: control.pause(
            by=user(),
            reason=form.get("reason", ""),
            scope=form.get("scope", ""),
            seconds=seconds(form.get("for") or None),
        ),
        "resume": lambda form: control.resume(
            by=user(), reason=form.get("reason", ""), scope=form.get("scope", "")
        ),
        "reset": lambda form: control.reset(
            form.get("breaker", ""),
            by=user(),
            reason=form.get("reason", ""),
            force=form.get("force") == "yes",
        ),
        "approve": of_run(control.approve),
        "reject": of_run(control.reject),
        "cancel": of_run(control.cancel),
    }


def _run(form: Mapping[str, str]) -> int:
    text = form.get("run", "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest("run: the number of a run")
    return int(text)


def _shown(service: Service) -> dict[str, Any]:
    seen = status.look(service)

    def read(transaction: Transaction) -> dict[str, Any]:
        pending = transaction.runs(limit=SHOWN, state=State.PENDING)
        said = [transaction.last_decision((run.strategy, run.target)) for run in pending]
        return {
            "episodes": transaction.open_episodes(limit=SHOWN),
            "runs": transaction.runs(limit=SHOWN),
            "under_way": [
                run
                for state in State
                if state not in {State.PENDING, State.FINISHED}
                for run in transaction.runs(limit=SHOWN, state=state)
            ],
            "pending": [
                (run, "" if one is None else one.detail)
                for run, one in zip(pending, said, strict=True)
            ],
        }

    return {
        "status": status.status(service, seen),
        "strategies": service.config.strategies.names,
        "asks": Reason.AWAITING_APPROVAL,
        **service.journal.read(read),
    }


def _moment(at: float | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
