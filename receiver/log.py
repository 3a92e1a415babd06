"""How does a log line look? One event a line, logfmt or JSON, every control character escaped.

What arrives over the network ends up in logs: a label value must not be able to forge a line, or to
steer a terminal.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

from receiver.redaction import redact, redact_all

FORMATS: Final = ("logfmt", "json")
LEVELS: Final = ("debug", "info", "warn", "error")

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NAMES: Final = {"WARNING": "warn", "CRITICAL": "error"}
_BARE: Final = re.compile(r"[\w./:@+%{}()\[\],*!?<>~^&$#;|-]+", re.ASCII)
# Control characters of ASCII and Latin-1, line separators, text direction.
_CONTROL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_MAX_VALUE: Final = 8_192


def escape(text: str) -> str:
    r"""Return *text* with everything that could end a line or steer a terminal as `\uXXXX`."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a line says, in its order: ts, level, logger, msg, then the extra fields."""
    found: dict[str, Any] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": _NAMES.get(record.levelname, record.levelname.lower()),
        "logger": record.name,
        "msg": record.getMessage(),
    }
    found |= {
        name: value
        for name, value in vars(record).items()
        if name not in _STANDARD and not name.startswith("_") and value is not None
    }
    if record.exc_info:
        found["error"] = logging.Formatter().formatException(record.exc_info)
    return {name: _redacted(value) for name, value in found.items()}


def _redacted(value: object) -> object:
    """Return *value* with secrets redacted."""
    match value:
        case str():
            return redact(value)
        case bool() | int() | float() | None:
            return value
        case dict() | list() | tuple():
            return redact_all(value)
        case _:
            text = str(value)
            return value if redact(text) == text else redact(text)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = msgspec.json.encode(
            {name: _plain(value) for name, value in fields(record).items()}, enc_hook=str
        )
        return escape(line.decode())  # in a JSON string the escapes mean the same


class LogfmtFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{name}={_logfmt(value)}" for name, value in fields(record).items())


def _plain(value: object) -> object:
    """Cut what is too long, and replace the lone surrogates that no encoder takes."""
    if isinstance(value, str):
        return value[:_MAX_VALUE].encode("utf-8", "replace").decode()
    return value


def _logfmt(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(_plain(value if isinstance(value, str) else str(value)))
    if _BARE.fullmatch(text):
        return text
    return escape('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to *stream* (standard error), in one form."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel({"warn": "WARNING"}.get(level, level.upper()))
    logging.raiseExceptions = False  # a log line that cannot be written stops nothing
    for noisy in ("werkzeug",):
        logging.getLogger(noisy).setLevel("WARNING")
