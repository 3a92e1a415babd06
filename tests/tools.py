"""Real programs that tests run: found, or the test fails. A test that skips proves nothing."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# Besides PATH: where `make develop` puts Debian's programs, and the venv that runs the tests.
_FOLDERS = (str(Path(sys.executable).parent), str(REPOSITORY / ".tools/usr/bin"))

# Debian's name for it, and those of others.
_OTHER_NAMES = {
    "prometheus-alertmanager": ("alertmanager",),
    "chromium-headless-shell": ("google-chrome", "chromium"),
}


def tool(name: str) -> str:
    """The path of a program: prometheus, promtool, prometheus-alertmanager, amtool, amlint, …

    The test is skipped where deploy/debian-tools found that this release has no package for it.
    """
    path = os.pathsep.join([_FOLDERS[0], os.environ.get("PATH", os.defpath), _FOLDERS[1]])
    for each in (name, *_OTHER_NAMES.get(name, ())):
        found: str | None = shutil.which(each, path=path)
        if found is not None:
            return found
    absent = REPOSITORY / ".tools/.absent" / name
    if absent.exists():
        pytest.skip(f"{name}: {absent.read_text().strip()}")
    pytest.fail(
        f"{name} is not installed: run make develop (programs in Python: pip install -e '.[dev]')",
        pytrace=False,
    )


class Upstreams(NamedTuple):
    """Which Prometheus and Alertmanager are started."""

    asked: str
    """`old`, `new`, or empty: the machine's own."""
    absent: str
    """Why those that were asked for cannot be had here."""
    prometheus: str
    alertmanager: str

    def __str__(self) -> str:
        of = self.asked or "the machine's own"
        if self.absent:
            of = f"the machine's own, for {self.asked} cannot be had: {self.absent}"
        return f"Prometheus {self.prometheus}, Alertmanager {self.alertmanager} ({of})"


def upstreams() -> Upstreams:
    """What `make UPSTREAMS=` asked for, and what there is."""
    asked = os.environ.get("UPSTREAMS", "")
    absent = REPOSITORY / ".tools/upstreams" / asked / "absent"
    return Upstreams(
        asked,
        absent.read_text().strip() if asked and absent.exists() else "",
        *(version(tool(name)) for name in ("prometheus", "prometheus-alertmanager")),
    )


def version(program: str) -> str:
    """What Prometheus' programs say with --version: 2.42.0, without what Debian added."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    (found,) = re.findall(r"version (\d[\d.]*\d)", (told.stdout + told.stderr).splitlines()[0])
    return str(found)


def cpu_seconds(*arguments: str, bytecode: Path) -> float:
    """The least processor time that the command line takes, of five times.

    Of several, since another program on the same core costs ours its caches.
    Compiled once into *bytecode*, as where it is installed: a checkout may be told to keep none
    (PYTHONDONTWRITEBYTECODE), and compiles itself anew each time.
    """
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode), "PYTHONDONTWRITEBYTECODE": ""}
    argv = [sys.executable, "-m", "receiver", *arguments]

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(argv, check=True, capture_output=True, env=env)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(5))
