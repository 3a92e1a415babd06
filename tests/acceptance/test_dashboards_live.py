"""What the boards ask gets an answer from a Prometheus that saw everything happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.life import ALL, ONE, Life, eventful_life
from tests.boards import Json, Query, committed, filled, label_values, marks, targets, variables

pytestmark = pytest.mark.heavy

BOARDS = committed()
EACH = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])
OTHERS = ("high-memory", "queue-stuck", "high-cpu", "low-success-rate")


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    with eventful_life(tmp_path_factory.mktemp("life")) as lived:
        yield lived


def chosen(board: Json, life: Life) -> list[dict[str, str]]:
    """What the variables may stand for: all, or one that is chosen."""
    instance = {"instance": life.server.url.removeprefix("http://")}
    if board["uid"] == "promheal-strategy":
        return [{**ALL, **ONE, **instance, "strategy": each} for each in (ONE["strategy"], *OTHERS)]
    return [ALL, {**ALL, "job": ONE["job"], **instance}]


def numbers(found: list[Any]) -> list[str]:
    return [
        value
        for one in found
        for _, value in ([one["value"]] if "value" in one else one["values"])
        if value != "NaN"
    ]


@EACH
def test_every_panel_gets_an_answer(board: Json, life: Life) -> None:
    if board["uid"] == "promheal-strategy":
        # Not every strategy lived through everything: each panel must have something of one.
        empty = [
            query
            for query in targets(board)
            if not any(numbers(life.series(query, each)) for each in chosen(board, life))
        ]
    else:
        empty = [
            query
            for query in targets(board)
            for each in chosen(board, life)
            if not numbers(life.series(query, each))
        ]
    assert empty == []


@EACH
def test_every_annotation_marks_something(board: Json, life: Life) -> None:
    for query in marks(board):
        assert any(life.series(query, each) for each in chosen(board, life)), query


@EACH
def test_every_variable_has_values(board: Json, life: Life) -> None:
    for one in variables(board):
        selector, label = label_values(one["query"])
        values = filled(selector, ALL)
        found = life.asked("series", **{"match[]": values, "start": life.began, "end": life.ended})
        assert {each[label] for each in found} != set(), one
        if label == "strategy":
            assert {each[label] for each in found} == {ONE["strategy"], *OTHERS}


def test_a_question_that_nothing_answers_is_found(life: Life) -> None:
    nothing = Query("nothing", 'promheal_heals_total{outcome="worse", job=~"$job"}')
    assert life.series(nothing, ALL) == []


def test_only_receivers_are_counted_where_all_jobs_are_chosen(life: Life) -> None:
    assert len(life.asked("query", query="up == 1")) > 1
    board = next(one for one in BOARDS if one["uid"] == "promheal-overview")
    query = next(one for one in targets(board) if one.where == "Receivers up: A")
    assert numbers(life.series(query, ALL)) == ["1"]


def test_the_breakers_are_what_they_are_called(life: Life) -> None:
    """The numbers of the state timeline, held against the states themselves."""
    board = next(one for one in BOARDS if one["uid"] == "promheal-overview")
    query = next(one for one in targets(board) if one.where == "Breakers: A")
    states = ("CLOSED", "HALF_OPEN", "OPEN", "PERMANENT_OPEN")
    last = {
        one["metric"]["breaker"]: states[int(one["values"][-1][1])]
        for one in life.series(query, ALL)
        if one["values"][-1][0] >= life.ended - 1.5
    }
    assert last["strategy:queue-stuck"] == "OPEN"
    assert last["strategy:high-latency"] == "CLOSED"
    for breaker, state in last.items():
        assert life.server.metric("breaker_state", breaker=breaker, state=state) == 1
