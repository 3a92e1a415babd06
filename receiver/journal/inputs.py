"""What a decision rested on, as the journal keeps it: all of its situation but the strategy.

The strategy is in the stored configuration, under the hash that the decision names.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from receiver.errors import JournalError
from receiver.policy.guards.situation import Situation
from receiver.policy.strategy import Strategy
from receiver.redaction import redact_json

MOST: Final = 4_096
"""Bytes of one situation, packed."""
_ANNOTATION: Final = 1_024
"""Characters of an annotation that are kept: no guard reads them."""
_UNPACKED: Final = 1 << 20
"""Bytes of what is unpacked, whatever a journal from elsewhere holds."""

_FIELDS: Final = tuple(
    field for field in msgspec.structs.fields(Situation) if field.name != "strategy"
)
_NAMES: Final = tuple(field.name for field in _FIELDS)
_Stored: Final = msgspec.defstruct(
    "_Stored", [(field.name, field.type) for field in _FIELDS], kw_only=True
)
_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(_Stored)


def pack(situation: Situation) -> bytes | None:
    """Return *situation* in few bytes, without secrets; None when it is larger than `MOST`."""
    packed = _packed(situation, _ANNOTATION)
    if len(packed) > MOST:
        packed = _packed(situation, 0)
    return packed if len(packed) <= MOST else None


def unpack(packed: bytes, strategy: Strategy) -> Situation:
    """Return what was packed. Raises JournalError for what this version does not understand."""
    read = _read(packed)
    return Situation(strategy=strategy, **{name: getattr(read, name) for name in _NAMES})


def shown(packed: bytes) -> dict[str, Any]:
    """Return what was packed as JSON has it. Raises JournalError."""
    found: dict[str, Any] = msgspec.to_builtins(_read(packed))
    return found


def _packed(situation: Situation, most: int) -> bytes:
    values = {name: getattr(situation, name) for name in _NAMES}
    alert = situation.alert
    if alert is not None:
        annotations = _cut(alert.annotations, most)
        values["alert"] = msgspec.structs.replace(alert, annotations=annotations)
    return zlib.compress(redact_json(_encode(values).decode()).encode())


def _cut(annotations: Mapping[str, str], most: int) -> dict[str, str]:
    return {name: text[:most] for name, text in annotations.items()} if most else {}


def _read(packed: bytes) -> Any:
    try:
        return _decoder.decode(zlib.decompressobj().decompress(packed, _UNPACKED))
    except (zlib.error, msgspec.DecodeError) as error:
        raise JournalError(f"the inputs of a decision cannot be read: {error}") from None
