"""The forms by which an operator changes things: whose they are, and what each one wishes.

Each carries a token that is good for its user, this process and `FORM_AGE`, so that no other site
can send one in the user's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from flask import current_app, request
from itsdangerous import BadSignature, TimestampSigner, URLSafeTimedSerializer
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException

from receiver.app import Promheal
from receiver.policy.run import Run
from receiver.policy.scope import TARGET
from receiver.web.steering import seconds, user

FORM_AGE: Final = 12 * 3600
"""Seconds for which a form that was shown may be sent."""

Wish = Callable[[Mapping[str, str]], object]


class _Hourly(TimestampSigner):
    """Signs with the hour, so that a page on which nothing changed is the same page."""

    def get_timestamp(self) -> int:
        return super().get_timestamp() // 3600 * 3600


class Tokens:
    def __init__(self, secret: bytes) -> None:
        """*secret*: what all receivers have in common, for one may show what another is sent."""
        self._signer = URLSafeTimedSerializer(secret, salt="promheal form", signer=_Hourly)

    def issue(self) -> str:
        return str(self._signer.dumps(user()))

    def check(self) -> None:
        """Raise Forbidden unless the form was shown to the user who sends it, not long ago."""
        try:
            owner = self._signer.loads(request.form.get("token", ""), max_age=FORM_AGE)
        except BadSignature:
            raise Forbidden(
                "the form is too old, or not of this page; load the page again"
            ) from None
        if owner != user():
            raise Forbidden("the form was shown to somebody else; load the page again")


def wishes(service: Promheal) -> Mapping[str, Wish]:
    """Return what a form may wish for, by its name."""
    control = service.control

    def of_run(act: Callable[..., Run]) -> Wish:
        return lambda form: act(_run(form), by=user(), reason=form.get("reason", ""))

    return {
        "pause": lambda form: control.pause(
            by=user(),
            reason=form.get("reason", ""),
            scope=_scope(form),
            seconds=seconds(form.get("for") or None),
            even_if_unknown=form.get("even_if_unknown") == "yes",
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


def where_from() -> str:
    """Return the path of the page whose form was sent; `/` when it is none of ours."""
    path = request.form.get("page", "/")
    try:
        endpoint, _ = current_app.url_map.bind("").match(path, method="GET")
    except HTTPException:
        return "/"
    return path if endpoint.startswith("page.") and path.startswith("/") else "/"


def _scope(form: Mapping[str, str]) -> str:
    """Return what is to be paused: a target that is written out, else what is chosen."""
    target = form.get("target", "").strip()
    return TARGET + target if target else form.get("scope", "")


def _run(form: Mapping[str, str]) -> int:
    text = form.get("run", "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest("run: the number of a run")
    return int(text)
