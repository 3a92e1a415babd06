"""What is said of small histories, asked of a real Prometheus; see histories.py for the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from receiver.clients.prometheus import Prometheus
from tests import histories
from tests.histories import FOLDER, History, filled, read, verdict

FILES: Final = sorted(FOLDER.glob("*.json"))
HISTORIES: Final = [read(file) for file in FILES]


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with filled(HISTORIES, tmp_path_factory.mktemp("histories")) as prometheus:
        yield prometheus


@pytest.mark.parametrize(
    ("index", "history"),
    [pytest.param(n, each, id=FILES[n].stem) for n, each in enumerate(HISTORIES)],
)
def test_says_what_is_known_and_no_more(asking: Prometheus, index: int, history: History) -> None:
    said = verdict(asking, history, index)

    assert str(said.before.signal) in history.want_before, said.before.detail
    assert str(said.after.signal) in history.want, f"{history.why}: {said.after.detail}"
    assert said.after.detail
    # One question; where series have ended, what became of them, of their objects and successors.
    assert said.queries <= 4


def test_each_kind_of_answer_is_wanted_of_some() -> None:
    wanted = [history.want for history in HISTORIES]

    for signal in ("cleared", "unknown", "firing"):
        assert sum(want == [signal] for want in wanted) >= 4


def test_the_command_tells_a_wrong_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = FOLDER / "agg-healed.json"
    wrong = tmp_path / "wrong.json"
    wrong.write_text(right.read_text().replace('["cleared"]', '["firing"]'))

    assert histories.main([str(right)]) == 0
    assert histories.main([str(right), str(wrong)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "ok", "FAIL"]
