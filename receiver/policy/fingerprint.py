"""Which alert is it? Alertmanager's fingerprint of its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_FNV_OFFSET: Final = 14_695_981_039_346_656_037
_FNV_PRIME: Final = 1_099_511_628_211
_64_BITS: Final = (1 << 64) - 1


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return Alertmanager's fingerprint of a label set: FNV-1a, 64 bits, over the sorted pairs.

    Needed for alerts that come without one: before Alertmanager 0.19, and from files.
    Source: prometheus/common, model/signature.go; a test holds it equal to a real Alertmanager's.
    """
    state = _FNV_OFFSET
    for name in sorted(labels):
        for byte in b"%s\xff%s\xff" % (name.encode(), labels[name].encode()):
            state = ((state ^ byte) * _FNV_PRIME) & _64_BITS
    return f"{state:016x}"
