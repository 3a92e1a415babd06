"""How large is a test: as in `make test`, or as in `make reliability`?

What it reached it says by pytest's `record_property`, under the names of bench/reliability/rows.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

Record = Callable[[str, object], None]
"""pytest's `record_property`: a name, and a number."""
FULL: Final = os.environ.get("RELIABILITY") == "full"


def scaled(short: int, full: int) -> int:
    return full if FULL else short
