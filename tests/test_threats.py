"""Each danger and each threat that the pages list names its tests, and these exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tools import REPOSITORY

_NAME = re.compile(r"`(test_\w+)`")


def written() -> set[str]:
    found: set[str] = set()
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        found.update(re.findall(r"^\s*def (test_\w+)\(", path.read_text("utf-8"), re.MULTILINE))
    return found


def rows(page: str) -> list[str]:
    """Of the table whose last column names tests."""
    lines = (REPOSITORY / page).read_text("utf-8").splitlines()
    begin = next(n for n, line in enumerate(lines) if line.endswith("| tested by |"))
    end = next(n for n in range(begin, len(lines)) if not lines[n].startswith("|"))
    return lines[begin + 2 : end]


@pytest.mark.parametrize(("page", "least"), [("SECURITY.md", 20), ("docs/safety.md", 25)])
def test_each_row_names_its_tests_and_they_exist(page: str, least: int) -> None:
    table, known = rows(page), written()
    assert len(table) >= least
    for row in table:
        assert _NAME.findall(row), row
        assert set(_NAME.findall(row)) <= known, set(_NAME.findall(row)) - known


def test_each_file_that_the_threats_name_exists() -> None:
    for row in rows("SECURITY.md"):
        for path in re.findall(r"`(receiver/[\w./]+)`", row):
            assert (REPOSITORY / Path(path)).exists(), path
