"""Readers of foreign bytes and texts take them or refuse them, and raise nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.figures import FULL, Record
from tests.fuzzing import TARGETS, damaged

ROOT: Final = Path(__file__).resolve().parent.parent
SECONDS: Final = 120
"""For each of the five: ten minutes."""


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_text_raises_nothing_that_nobody_expects(name: str) -> None:
    read, seeds = TARGETS[name]
    for seed in seeds:
        read(seed)
    for number in range(2_000):
        read(damaged(seeds, number))


@pytest.mark.skipif(not FULL, reason="two minutes each, and atheris: make reliability ARGS=2")
@pytest.mark.parametrize("name", TARGETS)
def test_atheris_finds_nothing_that_nobody_expects(name: str, record_property: Record) -> None:
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, "-m", "bench.fuzz", name, str(SECONDS)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    record_property("uncaught", int("Uncaught Python exception" in done.stdout + done.stderr))
    assert done.returncode == 0, (done.stdout + done.stderr)[-4_000:]
    record_property("minutes of atheris", SECONDS / 60)
