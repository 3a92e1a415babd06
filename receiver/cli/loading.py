"""Loads the configuration for a command that needs a sound one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from receiver.cli import BROKEN
from receiver.cli.output import say

if TYPE_CHECKING:  # 100 ms to import, which --help does not need
    from receiver.config.files import LoadedConfig


def loaded(file: Path) -> LoadedConfig:
    """Return the configuration at *file*; prints the problems of a broken one, and exits with 2."""
    from receiver.actions import discover  # noqa: PLC0415  see above
    from receiver.config.files import load  # noqa: PLC0415
    from receiver.settings.environment import environment  # noqa: PLC0415
    from receiver.yaml.diagnostics import InvalidConfig, format_problem  # noqa: PLC0415

    try:
        return load(file, discover(), environment())
    except InvalidConfig as invalid:
        for problem in invalid.problems:
            say(format_problem(problem), err=True)
        sys.exit(BROKEN)
