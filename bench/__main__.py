"""Which measurement? `python -m bench [NAME] [OPTION...]`; without a name, `performance`."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = (
    "performance", "latency", "path", "acceptance", "curves", "before", "scale", "capacity",
    "damage", "history", "imports", "memory", "restart", "series", "starts", "trouble", "virtual",
    "workers",
)  # fmt: skip

name, arguments = NAMES[0], sys.argv[1:]
if arguments and arguments[0] in NAMES:
    name, *arguments = arguments
import_module(f"bench.{name}").main(arguments)
