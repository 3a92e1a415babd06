"""Without any one guard the guards' own tests fail. `make mutate` asks the same of every line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from receiver.policy.decide import GUARDS
from tests.figures import FULL, Record

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def killed() -> list[str]:
    """What was changed, and made tests/test_guards.py fail."""
    ran = subprocess.run(
        [sys.executable, "-m", "bench.mutation", "--guards"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode in {0, 1}, ran.stderr
    return ran.stdout.splitlines()


@pytest.mark.parametrize("guard", [name for name, _ in GUARDS])
@pytest.mark.parametrize("change", ["is removed", "always allows"])
def test_the_tests_fail_when_a_guard(killed: list[str], guard: str, change: str) -> None:
    assert f"killed: {guard} {change}" in killed


def test_they_pass_when_nothing_is_changed(killed: list[str]) -> None:
    """Or all would be killed by something else."""
    assert len(killed) == 2 * len(GUARDS)


@pytest.mark.skipif(not FULL, reason="it takes half an hour: make reliability ARGS=29")
def test_of_all_mutants_most_are_killed(record_property: Record) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bench.mutation"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"^total .* ([0-9.]+) %$", ran.stdout, re.MULTILINE)
    assert found is not None, ran.stderr
    record_property("percent killed", found[1])
    assert ran.returncode == 0, ran.stdout
