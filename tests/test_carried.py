"""Which labels a result may have, held against a real Prometheus at the end."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from receiver.doctor.carried import MADE, origins
from receiver.policy.proof.syntax import parse
from tests.acceptance.server import ask
from tests.chain import Exporter, Program, start_prometheus, wait_until

CASES: list[tuple[str, str, set[str]]] = [
    ("up == 0", "a", {"up"}),
    ('rate(errors{job="x"}[5m]) / rate(all[5m]) > 1', "a", {'errors{job="x"}'}),
    ("sum(errors) > 1", "a", set()),
    ("sum by (a) (errors) > 1", "a", {"errors"}),
    ("sum by (a) (errors) > 1", "b", set()),
    ("sum without (a) (errors) > 1", "a", set()),
    ("sum without (a) (errors) > 1", "b", {"errors"}),
    ("sum by (a) (sum by (b) (errors)) > 1", "a", set()),
    ("topk by (a) (3, errors)", "b", {"errors"}),
    ('count_values("a", errors) > 1', "a", {MADE}),
    ("errors / on (a) all", "a", {"errors"}),
    ("errors / on (a) all", "b", set()),
    ("errors / ignoring (a) all", "a", set()),
    ("errors / ignoring (a) all", "b", {"errors"}),
    ("errors * on (a) group_left (b) all", "b", {"all"}),
    ("errors * on (a) group_left (b) all", "c", {"errors"}),
    ("errors * on (a) group_right (b) all", "c", {"all"}),
    ("errors and on (a) all", "b", {"errors"}),
    ("errors unless all", "b", {"errors"}),
    ("errors or all", "b", {"errors", "all"}),
    ("-errors < 3", "a", {"errors"}),
    ("3 < errors", "a", {"errors"}),
    ("vector(1) > 0", "a", set()),
    ("errors > scalar(all)", "a", {"errors"}),
    ('absent(up{a="1", b=~"2"})', "a", {MADE}),
    ('absent(up{a="1", b=~"2"})', "b", set()),
    ('label_replace(sum(errors), "a", "$1", "b", "(.*)") > 1', "a", {MADE}),
    ('label_replace(sum(errors), "a", "$1", "b", "(.*)") > 1', "b", set()),
    ("max_over_time(sum by (a) (errors)[5m:1m]) > 1", "a", {"errors"}),
    ("histogram_quantile(0.9, sum by (le, a) (rate(errors[5m]))) > 1", "a", {"errors"}),
]


@pytest.mark.parametrize(("expression", "name", "found"), CASES)
def test_where_a_label_may_come_from(expression: str, name: str, found: set[str]) -> None:
    assert set(origins(parse(expression).root, name)) == found


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Exporter() as exporter:
        for name in ("errors", "all"):
            exporter.set(name, 5.0, a="1", b="2", c=name)
        with start_prometheus(
            tmp_path_factory.mktemp("prometheus"), targets={"x": [exporter.address]}
        ) as program:
            wait_until(lambda: result(program, "errors and on () all"))
            yield program


def result(program: Program, expression: str) -> list[dict[str, str]]:
    answer = ask(f"{program.url}/api/v1/query?query={quote(expression)}").json()
    return [series["metric"] for series in answer["data"]["result"] if "metric" in series]


@pytest.mark.parametrize(("expression", "name", "found"), CASES)
def test_what_prometheus_returns_has_no_other_label(
    prometheus: Program, expression: str, name: str, found: set[str]
) -> None:
    assert found or not any(name in labels for labels in result(prometheus, expression))
