from __future__ import annotations

import re
import unicodedata

import pytest

from receiver.yaml.diagnostics import (
    Diagnostic,
    DiagnosticSeverity,
    InvalidConfig,
    Report,
    format_problem,
    nearest,
    suggestion,
)


def problem(source: str, column: int, length: int = 1, **more: object) -> Diagnostic:
    values = {"file": "f.yml", "line": 9, "message": "wrong", **more}
    return Diagnostic(source=source, column=column, length=length, **values)  # type: ignore[arg-type]


def test_a_problem_is_shown_with_its_line_and_a_caret() -> None:
    found = problem("        tiemout: 60s", 9, 7, message="unknown key 'tiemout'")
    assert format_problem(found) == (
        "f.yml:9:9: unknown key 'tiemout'\n 9 |         tiemout: 60s\n   |         ^^^^^^^"
    )


def test_a_warning_says_so() -> None:
    assert format_problem(problem("x", 1, severity=DiagnosticSeverity.WARNING)).startswith(
        "f.yml:9:1: warning: wrong\n"
    )


def test_a_problem_of_the_whole_file_has_no_place() -> None:
    found = Diagnostic(file="f.yml", line=0, column=0, message="no such file")
    assert format_problem(found) == "f.yml: no such file"


def cells(text: str) -> int:
    """How far a terminal moves, with tab stops at every eighth cell."""
    at = 0
    for char in text:
        if char == "\t":
            at += 8 - at % 8
        elif not unicodedata.combining(char):
            at += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return at


@pytest.mark.parametrize(
    "before",
    ["", "a: ", "\t", "a:\t\t", "日本: ", "e\u0301: ", "日\t本: ", "🙂: ", "x" * 500, "日" * 300],
)
def test_the_caret_is_below_the_place(before: str) -> None:
    found = problem(f"{before}HERE and more", len(before) + 1, 4)
    _, line, caret = format_problem(found).split("\n")
    assert cells(line[: line.index("HERE")]) == cells(caret[: caret.index("^")])
    assert caret.endswith("^^^^")
    assert not caret.endswith("^^^^^")


def test_a_long_line_is_cut_around_the_place() -> None:
    found = problem("x" * 100_000 + "HERE" + "y" * 100_000, 100_001, 4)
    text = format_problem(found)
    assert len(text) < 500
    assert "HERE" in text


def test_a_file_cannot_steer_the_terminal() -> None:
    text = format_problem(problem("a: \x1b[2J\x9b\u202e\r!", 1))
    assert not re.search("[\x1b\x9b\u202e\r]", text)


def test_colors_are_only_added() -> None:
    found = problem("a: b", 4)
    colored = format_problem(found, color=True)
    assert "\x1b[31m" in colored
    assert re.sub(r"\x1b\[\d+m", "", colored) == format_problem(found)


def test_the_nearest_is_proposed_and_without_one_all_are_named() -> None:
    assert nearest("tiemout", ["timeout", "retries"]) == "timeout"
    assert nearest("zzz", ["timeout"]) is None
    assert suggestion("tiemout", ["timeout"]) == "; did you mean 'timeout'?"
    assert suggestion("zzz", ["timeout", "retries"]) == "; known: retries, timeout"


def test_a_report_tells_everything_once_by_its_place() -> None:
    report = Report("f.yml", "a\r\nb\x85c\u2028d\ne")
    report.add("third", 4, 0)
    report.add("second", 1, 0)
    report.add("second", 1, 0)
    report.add("first")
    assert [(found.line, found.source) for found in report.problems] == [
        (0, ""),
        (2, "b"),
        (5, "e"),
    ]


def test_a_warning_breaks_nothing() -> None:
    report = Report("f.yml", "a")
    report.add("hm", 0, 0, severity=DiagnosticSeverity.WARNING)
    assert not report.broken
    report.add("no", 0, 0)
    assert report.broken


def test_the_error_tells_every_problem() -> None:
    error = InvalidConfig([problem("a", 1, message="one"), problem("b", 1, message="two")])
    assert [found.message for found in error.problems] == ["one", "two"]
    assert "f.yml:9:1: one" in str(error)
    assert "f.yml:9:1: two" in str(error)
