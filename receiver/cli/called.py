"""How is called at the command line what the API calls by its requests?

The API's messages tell programs and people with curl what to ask; who typed a command is told the
command.
"""

from __future__ import annotations

import re
from typing import Final

COMMANDS: Final = {
    "GET /api/alerts": "`promheal alerts`",
    "GET /api/audit": "`promheal audit`",
    "GET /api/breakers": "`promheal breakers`",
    "GET /api/pauses": "`promheal status`",
    "GET /api/runs": "`promheal runs`",
    "GET /api/status": "`promheal status`",
    "GET /api/tasks": "`promheal tasks`",
}
"""By the request. What stays as it is has no command."""
_CALLED: Final = {
    **COMMANDS,
    "force: true": "--force",
    "send evenIfUnknown: true": "add --even-if-unknown",
}
_ASKED: Final = re.compile(rf"(?:{'|'.join(map(re.escape, _CALLED))})\b")


def called(message: str) -> str:
    """Return a message of the API in the words of the command line."""
    return _ASKED.sub(lambda found: _CALLED[found[0]], message)
