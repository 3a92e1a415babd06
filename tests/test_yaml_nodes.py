from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from receiver.yaml import nodes as yaml_nodes
from receiver.yaml.diagnostics import Report
from receiver.yaml.nodes import MAX_BYTES, MAX_DEPTH, Items, Node, Pairs, Scalar, parse, read_file


def parsed(text: str) -> tuple[Node | None, Report]:
    report = Report("f.yml", text)
    return parse(text, report), report


def plain(node: Node | None) -> object:
    match node:
        case Scalar():
            return node.value
        case Items():
            return [plain(item) for item in node.items]
        case Pairs():
            return {str(plain(key)): plain(value) for key, value in node.pairs}
        case _:
            return node


def test_scalars_stay_the_text_that_was_written() -> None:
    node, report = parsed("{a: no, b: 22:30, c: 010, d: 'x', e: 1_000, f: 0x1F, g: 2024-01-01}")
    assert plain(node) == {
        "a": "no",
        "b": "22:30",
        "c": "010",
        "d": "x",
        "e": "1_000",
        "f": "0x1F",
        "g": "2024-01-01",
    }
    assert not report.problems


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "\ufeff"])
def test_an_empty_document_has_no_node_or_nothing(text: str) -> None:
    node, report = parsed(text)
    assert node is None or plain(node) == ""
    assert not report.problems


# `▸` stands before the place where the problem must be found.
REFUSED = [
    ("a: ▸&x 1\n", "anchor &x"),
    ("a: ▸&x [1]\n", "anchor &x"),
    ("▸&x a: 1\n", "anchor &x"),
    ("a: ▸!!str 1\n", "tag '!!str'"),
    ("a: ▸!foo {b: c}\n", "tag '!foo'"),
    ("a: ▸!!python/object/apply:os.system [id]\n", "tag '!!python/object/apply:os.system'"),
    ("a: ▸! b\n", "tag '!'"),
    ("a: {▸<<: {b: c}}\n", "merge keys"),
    ("a: 1\nb: 2\n▸a: 3\n", "duplicate key 'a'; it is in line 1 already"),
    ("a: {b: 1, ▸b: 2}\n", "duplicate key 'b'"),
    ("a: {b: 1, ▸'b': 2}\n", "duplicate key 'b'"),
    ("a: 1\n▸---\nb: 2\n", "a second document"),
    ("a: ▸[1, 2\n", "did not find expected ',' or ']'"),
    ("a: ▸[1, 2\n\n  \n", "did not find expected ',' or ']'"),
    ("a: 1\n▸b 2\nc: 3\n", "could not find expected ':'"),
    ("a: ▸'b\n", "found unexpected end of stream"),
    ("a: b▸: c\n", "mapping values are not allowed"),
    ("a:\n▸\tb: c\n", "a tab cannot indent"),
    ('a: "▸\\q"\n', "unknown escape character"),
    ("a: ▸%x\n", "cannot start any token"),
    ("a: ▸\x07\n", "U+0007 may not stand in YAML"),
    ("a: b\n日本: ▸\x00\n", "U+0000 may not stand in YAML"),
    ("日本: {é: 1, ▸é: 2}\n", "duplicate key 'é'"),
    ("a: b\r\n\u2028b: c\x85▸b: d\n", "duplicate key 'b'"),
]


@pytest.mark.parametrize(("marked", "message"), REFUSED)
def test_what_is_no_plain_yaml_is_refused_at_its_place(marked: str, message: str) -> None:
    text = marked.replace("▸", "")
    before = yaml_nodes._place(marked[: marked.index("▸")])
    _, report = parsed(text)
    [problem] = report.problems
    assert (problem.line - 1, problem.column - 1) == before
    assert message in problem.message


def test_an_alias_is_refused_with_its_anchor() -> None:
    _, report = parsed("a: &x 1\nb: *x\n")
    assert [(found.line, found.column) for found in report.problems] == [(1, 4), (2, 4)]


def test_quoted_merge_keys_are_keys() -> None:
    node, report = parsed("'<<': 1\n")
    assert plain(node) == {"<<": "1"}
    assert not report.problems


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 100)]
    began = time.process_time()
    _, report = parsed("\n".join(lines))
    assert time.process_time() - began < 1
    assert len(report.problems) == 100 + 990


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "a: [", "- ? "])
def test_a_deep_nest_neither_ends_the_process_nor_takes_long(opening: str) -> None:
    began = time.process_time()
    _, report = parsed(opening * 200_000)
    assert time.process_time() - began < 3
    assert len(report.problems) == 1


def test_the_depth_that_is_allowed() -> None:
    assert not parsed("[" * MAX_DEPTH + "]" * MAX_DEPTH)[1].problems
    [problem] = parsed("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))[1].problems
    assert problem.message == f"nested more than {MAX_DEPTH} deep"
    assert problem.column == MAX_DEPTH + 1


def test_the_loader_without_libyaml_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_nodes, "_LOADER", yaml.SafeLoader)
    node, report = parsed("a: [b, {c: 'd'}]\ne: |\n  f\n")
    assert plain(node) == {"a": ["b", {"c": "d"}], "e": "f\n"}
    assert not report.problems
    for text in ('a: "\\UFFFFFFFF"\n', "a: [", "a: *x\n", "%YAML 9.9\n---\na"):
        assert parsed(text)[1].problems


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    report = Report("f.yml")
    assert read_file(tmp_path, report) is None
    assert [found.message for found in report.problems] == ["cannot be read: Is a directory"]


def test_a_file_that_is_too_large_is_a_problem(tmp_path: Path) -> None:
    report = Report("f.yml")
    (tmp_path / "f").write_bytes(b"#" * (MAX_BYTES + 1))
    assert read_file(tmp_path / "f", report) is None
    assert "larger than 4 MiB" in report.problems[0].message


def test_a_file_that_is_not_utf_8_is_a_problem_at_its_first_bad_byte(tmp_path: Path) -> None:
    report = Report("f.yml")
    (tmp_path / "f").write_bytes("a: b\né: ".encode() + b"\xff\xfe")
    assert read_file(tmp_path / "f", report) is None
    [problem] = report.problems
    assert (problem.line, problem.column) == (2, 4)
    assert "0xff is not UTF-8" in problem.message


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfa: b")
    assert read_file(tmp_path / "f", Report("f.yml")) == (b"\xef\xbb\xbfa: b", "a: b")
