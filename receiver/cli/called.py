"""Translates the API's messages, which name requests, for the command line, which has commands."""

from __future__ import annotations

import re
from typing import Final

COMMANDS: Final = {
    "GET /api/alerts": "`promheal alerts`",
    "GET /api/audit": "`promheal audit`",
    "GET /api/breakers": "`promheal breakers`",
    "GET /api/decisions": "`promheal explain LABEL=VALUE`",
    "GET /api/pauses": "`promheal status`",
    "GET /api/runs": "`promheal runs`",
    "GET /api/status": "`promheal status`",
    "GET /api/tasks": "`promheal tasks`",
}
"""The commands, by request. A request that has none is left as it is."""
_TRANSLATIONS: Final = {
    **COMMANDS,
    "force: true": "--force",
    "send evenIfUnknown: true": "add --even-if-unknown",
}
_REQUESTS: Final = re.compile(rf"(?:{'|'.join(map(re.escape, _TRANSLATIONS))})\b")


def called(message: str) -> str:
    """Return a message of the API with commands and flags for requests and fields."""
    return _REQUESTS.sub(lambda found: _TRANSLATIONS[found[0]], message)
