"""Which measurement? `python -m bench [NAME] [OPTION...]`; without a name, beside bare Flask."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = ("beside_flask", "before", "scale", "capacity", "damage", "history", "workers")

name, arguments = NAMES[0], sys.argv[1:]
if arguments and arguments[0] in NAMES:
    name, *arguments = arguments
import_module(f"bench.{name}").main(arguments)
