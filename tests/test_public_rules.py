"""The sweep over public rules, in short: rules of every form, one Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bench.public_rules import asked, judging, trees
from bench.public_rules.__main__ import main
from bench.public_rules.finding import Case, Tools, find
from bench.public_rules.histories import TITLES, histories
from bench.public_rules.judging import Slot, Verdict, sums
from bench.public_rules.reading import read_folder
from bench.public_rules.server import Filling
from bench.public_rules.tree import shape
from tests.tools import tool

RULES = Path(__file__).parent / "public_rules"
TREES = 12

pytestmark = pytest.mark.slow


def tools(folder: Path) -> Tools:
    return Tools(
        prometheus=(tool("prometheus"),),
        promtool=tool("promtool"),
        folder=folder,
        seed=1,
        progress=lambda what, done, of: None,
    )


class Sweep:
    """Blocks with all histories of some cases."""

    def __init__(self, blocks: Path, slots: Sequence[Slot], tools_: Tools) -> None:
        self._blocks, self.slots, self._tools = blocks, slots, tools_

    def verdicts(self) -> list[Verdict]:
        return list(judging.judge(self.slots, self._blocks, self._tools.prometheus[0], self._tools))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """The rules as far as series can be made for them, with the states that were found."""
    found = []
    for rule in read_folder(RULES).rules:
        try:
            found.append(Case(rule=rule, shape=shape(rule.expr)))
        except ValueError:
            continue
    find(found, tools(tmp_path_factory.mktemp("finding")))
    return found


@pytest.fixture(scope="module")
def sweep(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    its = tools(tmp_path_factory.mktemp("sweep"))
    filling = Filling(its.folder / "histories", its.promtool)
    slots = judging.fill(((c, h) for c in cases if c.ill for h in histories(c)), filling)
    with filling.blocks() as blocks:
        yield Sweep(blocks, slots, its)


def test_every_form_of_rule_files_is_read_and_what_is_refused_has_a_reason() -> None:
    read = read_folder(RULES)
    assert Counter(Path(rule.file).name for rule in read.rules) == {
        "list.yml": 4,
        "operator.yml": 8,
        "prometheus.yml": 26,
    }
    assert read.repeated == 1
    assert list(read.recording) == ["service:latency_seconds:avg"]
    assert read.refused == [
        ("operator.yml: Template", "a template"),
        ("operator.yml: Broken", "PromQL: unclosed left parenthesis"),
    ]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("vector(1)", "reads no series"),
        ('{"my.metric"} > 1', "a metric name that is not of the old kind"),
    ],
)
def test_rules_that_series_cannot_be_made_for_are_refused(expression: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        shape(expression)


def test_rules_are_made_to_fire_and_to_be_well(cases: list[Case]) -> None:
    assert {case.rule.name for case in cases if case.ill is None} <= {"Fewmembers"}
    assert {case.rule.name for case in cases if case.ill and not case.wells} == set()


def test_nothing_is_wrongly_cleared_and_no_good_heal_undone(sweep: Sweep) -> None:
    verdicts = sweep.verdicts()
    assert {v.slot.history.name for v in verdicts if v.word} == set(TITLES)
    wrong = [(v.wrong, v.slot.history.name, v.slot.case.rule.name) for v in verdicts if v.wrong]
    assert wrong == []
    assert sums(verdicts).failures == ()


def test_a_verification_that_believes_an_empty_answer_is_caught(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def believing(
        source: asked.Source, binding: asked.Binding, at: float, since: float
    ) -> tuple[str, str]:
        returned = [sample.labels for sample in source.query(binding.expression, at)]
        mine = any(binding.labels.items() <= labels.items() for labels in returned)
        return ("firing" if mine else "cleared"), ""

    monkeypatch.setattr(asked, "look", believing)
    verdicts = sweep.verdicts()
    caught = {v.slot.history.name for v in verdicts if v.wrong}
    assert caught == {
        "dead",
        "dead, sibling",
        "missing, ill",
        "missing, well",
        "counters",
        "NaN",
        "up: dead",
        "up: silent",
        "up: left",
        "replaced, ill",
        "pod, ill",
        "a third",
        "ended",
    }
    assert any("wrongly cleared" in text for text in sums(verdicts).failures)
    assert any("called ineffective" in text for text in sums(verdicts).failures)


def test_a_verification_that_never_knows_is_caught(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "look", lambda *_: ("unknown", "who knows"))
    told = sums(sweep.verdicts())
    assert told.failures == ("100.00% of what is truly well ends unknown, more than 1%",)
    assert any("who knows" in line for line in told.lines)


def test_random_expressions_without_a_series_that_fed_them_are_never_cleared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trees.sweep(TREES, tools(tmp_path), None) == []
    assert "one series that fed it is removed" in capsys.readouterr().out


def test_random_expressions_are_the_same_for_one_seed() -> None:
    one, other = ([c.rule.expr for c in trees.grow(20, seed)] for seed in (7, 7))
    assert one == other
    assert one != [c.rule.expr for c in trees.grow(20, 8)]


def test_the_command_names_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nowhere is not a folder"):
        main([str(tmp_path / "nowhere")])


def test_the_command_says_when_a_folder_holds_no_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "values.yml").write_text("replicas: 3\n")
    with pytest.raises(SystemExit, match="holds no alerting rule"):
        main([str(tmp_path), "--prometheus", tool("prometheus"), "--promtool", tool("promtool")])
