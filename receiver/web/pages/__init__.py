"""The pages: overview, runs, strategies, and the forms that change something.

Rendered on the server. A script refreshes what has changed, and every page works without it. Labels
and reasons are hostile text: the templates escape them.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import BadRequest

from receiver.app import Promheal
from receiver.errors import RefusedError
from receiver.healing.control import MAX_REASON
from receiver.healing.explaining import explain_one
from receiver.healing.known import UNKNOWN
from receiver.policy.duration import format_duration
from receiver.web import query, status
from receiver.web.pages import views
from receiver.web.pages.forms import Tokens, changes, where_from
from receiver.web.steering import user

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def blueprint(service: Promheal) -> Blueprint:  # noqa: C901  one function a route
    routes = Blueprint("page", __name__)
    tokens = Tokens(service.journal.secret("forms"))
    possible = changes(service)
    routes.add_app_template_filter(views.moment, "moment")
    routes.add_app_template_filter(status.iso, "iso")
    routes.add_app_template_filter(views.exact, "exact")
    routes.add_app_template_filter(views.took, "took")
    routes.add_app_template_filter(views.word, "word")
    routes.add_app_template_filter(format_duration, "duration")

    def page(template: str, values: dict[str, Any], *, problem: str = "", code: int = 200,
             path: str = "") -> Response:  # fmt: skip
        text = render_template(
            template,
            **values,
            problem=problem,
            user=user(),
            may_change=request.environ.get("promheal.role", "operator") == "operator",
            token=tokens.issue(),
            path=path or request.script_root + request.path,
            max_reason=MAX_REASON,
        )
        response = Response(text, status=code, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Referrer-Policy"] = "same-origin"
        if code == 200:
            response.headers["Cache-Control"] = "private, no-cache"
            response.set_etag(hashlib.sha256(text.encode()).hexdigest()[:32])
            response.make_conditional(request)
        return response

    @routes.get("/")
    def show() -> Response:
        return page("status.html", views.overview(service))

    @routes.get("/runs")
    def runs() -> Response:
        try:
            strategy, outcome = query.strategy(service), query.word("outcome")
        except RefusedError:
            return page("absent.html", {"what": f"strategy {request.args['strategy']}"}, code=404)
        before = query.number("before", query.MAX_ID, 1, query.MAX_ID)
        return page(
            "runs.html", views.listed(service, strategy=strategy, outcome=outcome, before=before)
        )

    @routes.get("/runs/<int:number>")
    def run(number: int) -> Response:
        values = views.one_run(service, number) if number <= query.MAX_ID else None
        if values is None:
            return page("absent.html", {"what": f"run {number}"}, code=404)
        return page("run.html", values)

    @routes.get("/decisions/<int:number>")
    def decision(number: int) -> Response:
        known = number <= query.MAX_ID
        why = explain_one(service.journal, number, service.actions) if known else None
        if why is None:
            return page("absent.html", {"what": f"decision {number}"}, code=404)
        return page("decision.html", {"why": why})

    @routes.get("/strategies/<name>")
    def strategy(name: str) -> Response:
        values = views.one_strategy(service, name)
        if values is None:
            return page("absent.html", {"what": f"strategy {name}"}, code=404)
        return page("strategy.html", values)

    @routes.post("/ui/<any(pause, resume, reset, approve, reject, cancel):wish>")
    def change(wish: str) -> Response:
        tokens.check()
        try:
            possible[wish](request.form)
        except (RefusedError, BadRequest) as error:
            text = error.description if isinstance(error, BadRequest) else str(error)
            if isinstance(error, RefusedError) and error.code == UNKNOWN:
                text += " (to pause it all the same, tick: even if it is not known)"
            return page(
                "status.html",
                views.overview(service),
                problem=f"{wish}: {text}",
                code=error.status if isinstance(error, RefusedError) else 400,
                path=url_for("page.show"),
            )
        answer = redirect(where_from(), code=303)
        assert isinstance(answer, Response)
        return answer

    return routes
