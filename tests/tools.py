"""Real programs that tests run: found, or the test fails. A test that skips proves nothing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# Besides PATH: where `make tools` puts Debian's programs, and the venv that runs the tests.
_FOLDERS = (str(Path(sys.executable).parent), str(REPOSITORY / ".tools/usr/bin"))

# Debian's name for it, and its own.
_OTHER_NAMES = {"prometheus-alertmanager": ("alertmanager",)}


def tool(name: str) -> str:
    """The path of a program: prometheus, promtool, prometheus-alertmanager, amtool, amlint, …"""
    path = os.pathsep.join([_FOLDERS[0], os.environ.get("PATH", os.defpath), _FOLDERS[1]])
    for each in (name, *_OTHER_NAMES.get(name, ())):
        found: str | None = shutil.which(each, path=path)
        if found is not None:
            return found
    pytest.fail(
        f"{name} is not installed: run make tools (programs in Python: pip install -e '.[dev]')",
        pytrace=False,
    )
