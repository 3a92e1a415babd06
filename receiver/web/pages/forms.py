"""The forms of the pages: their CSRF tokens, and what each one changes.

A token is valid for its user and for `FORM_AGE`, so that no other site can submit a form in the
user's name.
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
"""Seconds for which a form may be submitted after it was shown."""

Change = Callable[[Mapping[str, str]], object]


class _Hourly(TimestampSigner):
    """Signs with the hour, so that an unchanged page has the same bytes."""

    def get_timestamp(self) -> int:
        return super().get_timestamp() // 3600 * 3600


class Tokens:
    def __init__(self, secret: bytes) -> None:
        """*secret* is shared by all receivers: one may show the form that another receives."""
        self._signer = URLSafeTimedSerializer(secret, salt="promheal form", signer=_Hourly)

    def issue(self) -> str:
        return str(self._signer.dumps(user()))

    def check(self) -> None:
        """Raise Forbidden unless the form was shown to the same user within `FORM_AGE`."""
        try:
            owner = self._signer.loads(request.form.get("token", ""), max_age=FORM_AGE)
        except BadSignature:
            raise Forbidden(
                "the form is too old, or not of this page; load the page again"
            ) from None
        if owner != user():
            raise Forbidden("the form was shown to somebody else; load the page again")


def changes(service: Promheal) -> Mapping[str, Change]:
    """Return the changes that a form can make, by their names."""
    control = service.control

    def of_run(act: Callable[..., Run]) -> Change:
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
    """Return the path of the page whose form was submitted; the overview's unless it is ours."""
    root = request.script_root
    path = request.form.get("page", "")
    below = path.removeprefix(root)
    try:
        endpoint, _ = current_app.url_map.bind("").match(below, method="GET")
    except HTTPException:
        return f"{root}/"
    ours = endpoint.startswith("page.") and below.startswith("/")
    return root + below if ours else f"{root}/"


def _scope(form: Mapping[str, str]) -> str:
    """Return the scope of a pause: the target that was typed, else what was chosen."""
    target = form.get("target", "").strip()
    return TARGET + target if target else form.get("scope", "")


def _run(form: Mapping[str, str]) -> int:
    text = form.get("run", "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest("run: the number of a run")
    return int(text)
