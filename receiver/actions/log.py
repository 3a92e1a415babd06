"""`log`: say something, as one line of the log. For strategies that only watch, and for trying."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Any, Final

import msgspec

from receiver.actions import Action, Context
from receiver.template import ProseText

_log: Final = logging.getLogger("promheal.action")
_MAX_MESSAGE: Final = 65_536  # characters


class Level(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_NUMBERS: Final = {
    Level.INFO: logging.INFO,
    Level.WARNING: logging.WARNING,
    Level.ERROR: logging.ERROR,
}


class LogParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    message: ProseText
    """Up to 65,536 characters; control characters are shown as `\\uXXXX`."""
    level: Level = Level.INFO
    """The level of the record."""


class Log(Action):
    """Writes one line; how hostile text in it is shown is the log format's affair."""

    name = "log"
    Params = LogParams
    timeout = 5.0
    heals = False

    def idempotent(self, params: LogParams) -> bool:  # noqa: ARG002
        return True

    def run(self, params: LogParams, context: Context) -> dict[str, Any]:
        message = params.message[:_MAX_MESSAGE]
        fields = {
            "run_id": context.run_id,
            "strategy": context.strategy,
            "target": context.target,
            "fingerprint": context.alert.get("fingerprint", ""),
        }
        _log.log(_NUMBERS[params.level], "%s", message, extra=fields)
        return {"message": message}
