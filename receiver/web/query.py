"""Query parameters. A meaningless one is rejected, never ignored."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from flask import request
from werkzeug.exceptions import BadRequest

from receiver.app import Promheal
from receiver.errors import RefusedError
from receiver.journal import Transaction
from receiver.policy.run import Outcome, State
from receiver.yaml.diagnostics import quoted, suggestion

MAX_PAGE: Final = 500
PAGE: Final = 50
MAX_ID: Final = 2**62

_WORDS: Final = {"state": State, "outcome": Outcome}
"""The words that a parameter takes."""


def only(known: Collection[str]) -> None:
    """Raise BadRequest for a parameter that is not in *known*.

    Ignored, a misspelt filter would return everything.
    """
    for name in request.args:
        if name not in known:
            raise BadRequest(f"{quoted(name)} is no parameter here{suggestion(name, known)}")


def cursor() -> tuple[int, int]:
    """Return `limit` and `before`, for a list that is newest first."""
    return limit(), number("before", MAX_ID, 1, MAX_ID)


def limit() -> int:
    """Return `limit`: the most that are returned."""
    return number("limit", PAGE, 1, MAX_PAGE)


def number(name: str, default: int, least: int, most: int) -> int:
    """Return a number. Raises BadRequest, a 400 that says what is allowed."""
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise BadRequest(f"{name}: a whole number from {least} to {most}")
    return int(text)


def word(name: str) -> str | None:
    """Return the `state` or `outcome`, or None. Raises BadRequest for any other word."""
    text = request.args.get(name)
    if text is None or text in list(_WORDS[name]):
        return text
    for other, words in _WORDS.items():
        if text in list(words):
            a = "an" if other[0] in "aeiou" else "a"
            raise BadRequest(f"{name}: {text!r} is {a} {other}; write {other}={text}")
    raise BadRequest(f"{name}: {quoted(text)} is none of {', '.join(_WORDS[name])}")


def strategy(service: Promheal) -> str | None:
    """Return the name of the strategy, or None.

    Raises RefusedError for one that is unknown to the configuration, and to the journal, which
    remembers removed ones.
    """
    name = request.args.get("strategy")
    known = service.config.strategies.names
    if name is None or name in known:
        return name

    def remembered(transaction: Transaction) -> bool:
        return bool(
            transaction.runs(limit=1, strategy=name)
            or transaction.latest_decisions(limit=1, strategy=name)
        )

    if not service.journal.read(remembered):
        raise RefusedError(f"no strategy {quoted(name)}{suggestion(name, known)}", status=404)
    return name
