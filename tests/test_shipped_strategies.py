"""Every strategy that ships has tests in virtual time, and the pages say what these do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from receiver.actions import discover
from receiver.policy.decide import GUARDS
from receiver.policy.run import Outcome
from receiver.testing.case import CaseResult, run_case
from receiver.testing.coverage import coverage_of
from receiver.testing.reader import Suite, read_suite
from tests.tools import REPOSITORY

SHIPPED = {
    "configs/promheal.yml": ("configs/tests/strategies.yml", "configs/tests/guards.yml"),
    "receiver/demo/promheal.yml": ("receiver/demo/tests.yml",),
    "deploy/compose/promheal.yml": ("deploy/tests/compose.yml",),
    "deploy/kubernetes/promheal/config/promheal.yml": ("deploy/tests/kubernetes.yml",),
}
"""By configuration: its tests. `make check` runs them by the command line."""

ACTIONS = discover()


@cache
def run(paths: tuple[str, ...]) -> tuple[list[Suite], list[CaseResult]]:
    suites = [read_suite(REPOSITORY / path, ACTIONS) for path in paths]
    return suites, [run_case(suite, one, ACTIONS) for suite in suites for one in suite.tests]


@pytest.mark.parametrize("config", SHIPPED)
def test_each_does_what_its_tests_expect(config: str) -> None:
    suites, results = run(SHIPPED[config])

    assert [result for result in results if result.failures] == []
    for suite in suites:
        assert Path(suite.loaded.files[0]).resolve() == REPOSITORY / config


def test_those_of_the_configuration_see_every_step_outcome_and_most_guards() -> None:
    suites, results = run(SHIPPED["configs/promheal.yml"])
    rows = coverage_of(suites[0].loaded.strategies, [result.covered for result in results])

    assert [row.missing for row in rows if row.missing] == []
    outcomes = {outcome for row in rows for outcome in row.outcomes}
    assert outcomes == set(Outcome) - {Outcome.UNKNOWN}
    assert len({guard for row in rows for guard in row.guards}) >= 9 <= len(GUARDS)


# -- docs/how-to/test-strategies.md


@cache
def page() -> dict[str, str]:
    """The blocks of the page, by the file that their first line names."""
    text = (REPOSITORY / "docs/how-to/test-strategies.md").read_text()
    found = re.findall(r"```yaml\n# (\S+)\n(.*?)```", text, re.DOTALL)
    return {name: f"# {name}\n{body}" for name, body in found}


def promheal(folder: Path, call: str) -> subprocess.CompletedProcess[str]:
    """Run a step of a workflow, as GitHub does, in *folder*."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", call],
        cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with the shipped configuration, and the test of the page."""
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/high_memory.yml").write_text(page()["tests/high_memory.yml"])
    return tmp_path


def test_the_test_of_the_page_passes_and_fails_as_the_page_shows(clone: Path) -> None:
    call = "promheal test tests/high_memory.yml"
    assert promheal(clone, call).returncode == 0
    strategies = (REPOSITORY / "configs/healing_strategies.yml").read_text()
    text = (REPOSITORY / "docs/how-to/test-strategies.md").read_text()
    (shown,) = re.findall(r"```\n(Unit Testing: .*?)```", text, re.DOTALL)

    (clone / "configs").unlink()
    (clone / "configs").mkdir()
    for name in ("promheal.yml", "services.yml"):
        (clone / "configs" / name).symlink_to(REPOSITORY / "configs" / name)
    first = strategies.index("  high-memory:")
    paused = strategies[first:].replace(
        "target: [service]", "target: [service]\n    mode: observe", 1
    )
    (clone / "configs/healing_strategies.yml").write_text(strategies[:first] + paused)
    failed = promheal(clone, call)

    assert failed.returncode == 1
    assert shown in failed.stdout


def test_the_workflow_of_the_page_runs_step_by_step(clone: Path) -> None:
    workflow = yaml.safe_load(page()[".github/workflows/strategies.yml"])
    (job,) = workflow["jobs"].values()
    steps = [step["run"] for step in job["steps"] if "run" in step]

    assert steps[0] == "pip install promheal", "the only one that is not run here"
    for step in steps[1:]:
        done = promheal(clone, step)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_annotations_of_the_workflow_are_beside_their_lines(clone: Path) -> None:
    path = clone / "tests/high_memory.yml"
    path.write_text(path.read_text().replace("outcome: healed", "outcome: failed"))

    done = promheal(clone, "promheal test tests/*.yml --output github")

    assert done.returncode == 1
    assert done.stdout.startswith("::error file=tests/high_memory.yml,line=13,col=9::")
