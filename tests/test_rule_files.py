from __future__ import annotations

from pathlib import Path

import pytest

from receiver.doctor.rule_files import read_rule_files
from receiver.errors import ConfigError

RULES = """groups:
- name: shop
  interval: 30s
  limit: 10
  rules:
  - alert: Slow
    expr: latency_seconds > 1
    for: 2m
    keep_firing_for: 10m
    labels: {severity: page}
    annotations: {summary: slow}
  - record: job:up:sum
    expr: sum by (job) (up)
- name: mill
  rules:
  - alert: Down
    expr: up == 0
"""


def test_rules_are_read_with_their_groups_and_places(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(RULES)

    found = read_rule_files([file])

    slow, made, down = (each.rule for each in found.rules)
    assert (slow.name, slow.query, slow.labels) == (
        "Slow",
        "latency_seconds > 1",
        {"severity": "page"},
    )
    assert (slow.duration, slow.keep_firing_for, slow.interval) == (
        120,
        600,
        30,
    )
    assert (made.name, made.records, made.query) == ("job:up:sum", True, "sum by (job) (up)")
    assert (down.interval, down.records) == (60.0, False), "Prometheus' default"
    assert [each.place.node.line + 1 for each in found.rules] == [6, 12, 16]
    assert not any(report.problems for report in found.reports)


def test_a_folder_is_read_with_its_folders(tmp_path: Path) -> None:
    for name in ("b/c.rules", "a.yaml", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(RULES)
    assert [Path(r.file).name for r in read_rule_files([tmp_path]).reports] == ["a.yaml", "c.rules"]


@pytest.mark.parametrize("path", ["absent.yml", "empty"])
def test_a_path_without_rules_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=path):
        read_rule_files([tmp_path / path])


@pytest.mark.parametrize(
    ("text", "problem", "rules"),
    [
        ("groups: [", "no YAML", 0),
        ("groups: [{name: g, rules: [{alert: A}, {alert: B, expr: up}]}]", "it needs `alert`", 1),
        ("groups: [{name: g, interval: soon, rules: [{alert: B, expr: up}]}]", "'soon'", 1),
        ("groups: [{name: g, rules: [&a {alert: B, expr: up}, *a]}]", "anchor", 1),
    ],
)
def test_what_cannot_be_read_is_said_and_the_rest_is_read(
    tmp_path: Path, text: str, problem: str, rules: int
) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(text)

    found = read_rule_files([file])

    assert problem in found.reports[0].problems[0].message
    assert len(found.rules) == rules


@pytest.mark.parametrize("text", ["", "[]", "groups: 1", "groups: [1]", "groups: [{rules: {}}]"])
def test_files_of_another_shape_have_no_rules(tmp_path: Path, text: str) -> None:
    (tmp_path / "rules.yml").write_text(text)
    assert read_rule_files([tmp_path]).rules == ()
