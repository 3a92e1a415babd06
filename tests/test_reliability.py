"""The page of reliability is its table, and each command of it can be typed."""

from __future__ import annotations

import ast
from itertools import groupby

import pytest

from bench.reliability.__main__ import PAGE, ROOT, load, parse
from bench.reliability.page import page
from bench.reliability.row import PASSED, Result, Row, at_least, at_most, no
from bench.reliability.rows import ROWS


def test_the_page_is_the_table_and_its_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(ROWS, load())


def test_there_are_29_rows_in_order_and_each_wants_figures() -> None:
    assert [row.number for row in ROWS] == list(range(1, 30))
    assert all(row.bounds for row in ROWS)
    assert load().keys() <= {row.number for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_its_tests_are_there_and_record_what_is_wanted(row: Row) -> None:
    text = ""
    for file, ids in groupby(row.tests, lambda test: test.partition("::")[0]):
        path = ROOT / file
        source = "".join(
            one.read_text() for one in ([path] if path.is_file() else path.glob("*.py"))
        )
        names = {n.name for n in ast.walk(ast.parse(source)) if hasattr(n, "name")}
        assert {part for one in ids for part in one.split("::")[1:]} <= names
        text += source
    for bound in row.bounds:
        assert bound.name == PASSED or f'record_property("{bound.name}"' in text, bound.name


ROW = Row(1, "one", (at_least(3, "kills", total=True), at_most(2, "s"), no("lost")), ("x",))


@pytest.mark.parametrize(
    ("result", "met"),
    [
        (Result("c", 2, 0, 0, {"kills": [1, 2], "s": [0.5, 2], "lost": [0]}), True),
        (Result("c", 2, 0, 0, {"kills": [1, 1], "s": [0.5, 2], "lost": [0]}), False),
        (Result("c", 2, 0, 0, {"kills": [1, 2], "s": [0.5, 2.1], "lost": [0]}), False),
        (Result("c", 2, 0, 0, {"kills": [1, 2], "s": [0.5, 2], "lost": [0, 1]}), False),
        (Result("c", 2, 0, 0, {"kills": [1, 2], "s": [0.5, 2]}), False),
        (Result("c", 2, 1, 0, {"kills": [1, 2], "s": [0.5, 2], "lost": [0]}), False),
        (Result("c", 2, 0, 1, {"kills": [1, 2], "s": [0.5, 2], "lost": [0]}), False),
    ],
)
def test_a_row_is_met_when_all_passed_and_each_figure_keeps_its_bound(
    result: Result, met: bool
) -> None:
    assert ROW.met(result) is met
    assert ("| **missed**" in page([ROW], {1: result})) is not met
    assert "| not run |" in page([ROW], {})


def test_what_pytest_writes_is_read() -> None:
    report = b"""<testsuites><testsuite>
      <testcase name="a"><properties><property name="s" value="0.5" /></properties></testcase>
      <testcase name="b"><properties><property name="s" value="2" /></properties></testcase>
      <testcase name="c"><failure message="x" /></testcase>
      <testcase name="d"><error message="x" /></testcase>
      <testcase name="e"><skipped message="x" /></testcase>
    </testsuite></testsuites>"""
    assert parse(report, "c") == Result("c", 2, 2, 1, {"s": [0.5, 2.0]})
