"""What a text in promheal.yml may be: names, variables, senders, spans of time."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from receiver.policy.texts import Duration

ProviderName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_-]{1,54}$", examples=["openai"])]
"""It becomes the id of a task."""
ChannelName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_-]{1,54}$", examples=["oncall"])]
"""It becomes the value of a metric's label."""
_VARIABLE: Final = re.compile("[A-Z_][A-Z0-9_]*")
Positive = Annotated[Duration, msgspec.Meta(gt=0)]


def _variable(text: str) -> str:
    """Return *text*, which is not repeated when it is refused: it may be the key itself."""
    if not _VARIABLE.fullmatch(text):
        raise ValueError(
            "this is no name of a variable; name the one that holds the secret, as OPENAI_API_KEY"
        )
    return text


Variable = Annotated[str, msgspec.Meta(extra={"type": "variable", "parse": _variable})]


def _sender(name: str) -> str:
    if not name or len(name) > 100:
        raise ValueError("name a user, a token or a client certificate of --web.config.file")
    if name == "anonymous" or name.startswith("@"):
        raise ValueError(
            f"{name!r} is nobody who has shown who it is; name a user, a token or a client "
            "certificate of --web.config.file"
        )
    return name


Sender = Annotated[str, msgspec.Meta(extra={"type": "name", "parse": _sender})]
ChannelNames = tuple[Annotated[str, msgspec.Meta(extra={"type": "channel"})], ...]
