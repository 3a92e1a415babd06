"""The results of tests: for people, as JSON, as JUnit's XML, and as annotations of GitHub Actions.

None of them holds a time of this machine's clock: the same tests give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from xml.etree import ElementTree as ET

import msgspec

from receiver.testing.case import CaseResult, Failure
from receiver.testing.coverage import StrategyCoverage, percent
from receiver.testing.seen import first_lines
from receiver.yaml.annotation import annotation

_UNPRINTABLE: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold."""


class FileCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """Of one configuration."""

    files: tuple[str, ...]
    """The test files that test it."""
    strategies: tuple[StrategyCoverage, ...]


def as_text(results: Sequence[CaseResult]) -> Iterator[str]:
    """Yield the lines for people: as `promtool test rules` prints, with what is different."""
    for file, of_file in _by_file(results):
        yield f"Unit Testing:  {file}"
        for result in of_file:
            yield from (f"    {line}" for line in result.trace)
            for failure in result.failures:
                yield from _failure(result, failure)
        failed = sum(bool(result.failures) for result in of_file)
        if failed:
            yield f"  FAILED: {failed} of {len(of_file)} tests"
        else:
            yield f"  SUCCESS: {_number(len(of_file))}"


def _number(tests: int) -> str:
    return f"{tests} test{'' if tests == 1 else 's'}"


def _failure(result: CaseResult, failure: Failure) -> Iterator[str]:
    when = f", at {failure.eval_time}" if failure.eval_time else ""
    place = f"{result.file}:{failure.line}:{failure.column}"
    yield f"  {place}: {result.name}: {failure.kind}{when}"
    for name, lines in (("exp", failure.expected), ("got", failure.got), ("why", failure.why)):
        for number, line in enumerate(first_lines(lines)):
            yield f"      {name + ':' if not number else '':<5}{line}"


def as_value(results: Sequence[CaseResult], coverage: Sequence[FileCoverage]) -> dict[str, Any]:
    failed = sum(bool(result.failures) for result in results)
    value: dict[str, Any] = {
        "passed": len(results) - failed,
        "failed": failed,
        "tests": [
            {
                "file": one.file,
                "name": one.name,
                "line": one.line,
                "passed": not one.failures,
                "failures": one.failures,
                **({"trace": one.trace} if one.trace else {}),
            }
            for one in results
        ],
    }
    if coverage:
        value["coverage"] = coverage
    return value


def as_junit(results: Sequence[CaseResult]) -> str:
    """Return the XML that CI systems read: a suite a file, a case a test."""
    root = ET.Element("testsuites", name="promheal test")
    for file, of_file in _by_file(results):
        failed = sum(bool(result.failures) for result in of_file)
        suite = ET.SubElement(
            root, "testsuite", name=_clean(file), tests=str(len(of_file)), failures=str(failed),
            errors="0", skipped="0",
        )  # fmt: skip
        for result in of_file:
            case = ET.SubElement(
                suite, "testcase", classname=_clean(file), name=_clean(result.name),
                file=_clean(file), line=str(result.line),
            )  # fmt: skip
            if result.failures:
                lines = [line for each in result.failures for line in _failure(result, each)]
                first = result.failures[0]
                message = f"{first.kind}: expected {_one_line(first.expected)}"
                failure = ET.SubElement(case, "failure", message=_clean(message))
                failure.text = _clean("\n".join(lines))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def as_github(results: Sequence[CaseResult]) -> Iterator[str]:
    """Yield a workflow command for each failure, so that it stands beside its line."""
    for result in results:
        for failure in result.failures:
            lines = [
                f"{result.name}: {failure.kind}",
                *(f"exp: {line}" for line in first_lines(failure.expected)),
                *(f"got: {line}" for line in first_lines(failure.got)),
                *(f"why: {line}" for line in first_lines(failure.why)),
            ]
            yield annotation("error", result.file, failure.line, failure.column, "\n".join(lines))


def coverage_rows(coverage: Iterable[FileCoverage]) -> Iterator[Sequence[str]]:
    for one in coverage:
        for row in one.strategies:
            yield (
                row.strategy,
                f"{row.covered}/{row.of}",
                ", ".join(row.outcomes) or "-",
                ", ".join(row.guards) or "-",
                "; ".join(row.missing) or "-",
            )


def whole_coverage(coverage: Iterable[FileCoverage]) -> float:
    return percent(row for one in coverage for row in one.strategies)


def _by_file(results: Sequence[CaseResult]) -> Iterator[tuple[str, list[CaseResult]]]:
    for file in dict.fromkeys(result.file for result in results):
        yield file, [result for result in results if result.file == file]


def _one_line(lines: Sequence[str]) -> str:
    return "; ".join(first_lines(lines, 3))


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
