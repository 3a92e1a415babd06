"""The boards without Grafana: they are what the code makes, they obey, and lead where they say."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from grafana.board import TITLES, WIDTH, text
from grafana.boards import boards
from receiver.app import Promheal
from receiver.policy.breaker import BreakerState
from receiver.policy.run import Outcome
from receiver.web.flask_app import create_app
from tests.boards import (
    FILES,
    GRAFANA,
    RULES,
    Json,
    committed,
    everything,
    label_values,
    links,
    marks,
    panels,
    selectors,
    targets,
    variables,
)
from tests.tools import REPOSITORY

BOARDS = committed()
EACH = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])


# --- files ----------------------------------------------------------------------------------------


def test_the_files_are_what_the_code_makes() -> None:
    made = {board["uid"]: text(board) for board in boards()}
    assert {path.stem: path.read_text(encoding="utf-8") for path in FILES} == made, "make generate"
    assert list(made) == list(TITLES)


def test_the_command_writes_them(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "grafana", str(tmp_path)], check=True, cwd=REPOSITORY, timeout=60
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in FILES
    }


def test_nothing_that_is_provisioned_may_be_edited() -> None:
    (source,) = _yaml("datasources/prometheus.yml")["datasources"]
    assert (source["type"], source["editable"]) == ("prometheus", False)
    (provider,) = _yaml("dashboards/promheal.yml")["providers"]
    assert provider["type"] == "file"
    assert (provider["allowUiUpdates"], provider["disableDeletion"]) == (False, True)
    assert [board["editable"] for board in BOARDS] == [False] * 4


def _yaml(name: str) -> Any:
    return yaml.safe_load((GRAFANA / "provisioning" / name).read_text(encoding="utf-8"))


# --- rules ----------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("rule", RULES)
def test_the_rules_of_the_linter_hold(board: Json, rule: str) -> None:
    assert list(RULES[rule](board)) == []


def _without(board: Json, name: str) -> None:
    board["templating"]["list"] = [
        one for one in board["templating"]["list"] if one["name"] != name
    ]


def _variable(board: Json, name: str) -> Json:
    found: Json = next(one for one in board["templating"]["list"] if one["name"] == name)
    return found


def _asks(expr: str) -> Callable[[Json], Any]:
    return lambda board: panels(board)[0]["targets"][0].update(expr=expr)


CHOSEN = '{job=~"$job",instance=~"$instance"}'
PLANTED: dict[str, list[Callable[[Json], Any]]] = {
    "template-datasource": [
        lambda board: _without(board, "datasource"),
        lambda board: _variable(board, "datasource").update(name="prometheus"),
        lambda board: _variable(board, "datasource").update(label="Source"),
    ],
    "template-job": [
        lambda board: _without(board, "job"),
        lambda board: _variable(board, "job").update(multi=False),
        lambda board: _variable(board, "job")["datasource"].update(uid="prometheus"),
    ],
    "template-instance": [
        lambda board: _variable(board, "instance").update(allValue=".*"),
        lambda board: _variable(board, "instance").update(type="custom"),
        lambda board: _variable(board, "instance").update(label="Receiver"),
    ],
    "template-label-promql": [
        lambda board: _variable(board, "job").update(query="label_value(up, job)"),
        lambda board: _variable(board, "job").update(query="label_values(up{, job)"),
    ],
    "template-on-time-change-reload": [lambda board: _variable(board, "job").update(refresh=1)],
    "panel-datasource": [
        lambda board: panels(board)[0]["datasource"].update(uid="prometheus"),
        lambda board: panels(board)[0]["targets"][0]["datasource"].update(uid="P1"),
    ],
    "panel-title-description": [
        lambda board: panels(board)[0].update(title=""),
        lambda board: panels(board)[-1].pop("description"),
    ],
    "panel-units": [
        lambda board: panels(board)[0]["fieldConfig"]["defaults"].pop("unit"),
        lambda board: panels(board)[0]["fieldConfig"]["defaults"].update(unit="seconds"),
    ],
    "panel-no-targets": [lambda board: panels(board)[0].update(targets=[])],
    "target-promql": [_asks("rate(x[5m]"), _asks("sum by (a) b")],
    "target-rate-interval": [
        _asks(f"rate(x{CHOSEN}[5m])"),
        _asks(f"sum(irate(x{CHOSEN}[$__range]))"),
    ],
    "target-job": [_asks('up{instance=~"$instance"}'), _asks('up{job="$job"} > 0')],
    "target-instance": [_asks('up{job=~"$job"}'), _asks(f"up{CHOSEN} / up")],
    "target-counter-agg": [
        _asks(f"x_total{CHOSEN}"),
        _asks(f"max_over_time(x_total{CHOSEN}[$__rate_interval])"),
    ],
    "uneditable-dashboard": [
        lambda board: board.update(editable=True),
        lambda board: board.pop("editable"),
    ],
}


@pytest.mark.parametrize(
    ("rule", "number"), [(rule, n) for rule in RULES for n in range(len(PLANTED[rule]))]
)
def test_each_rule_finds_what_breaks_it(rule: str, number: int) -> None:
    board = committed()[0]
    PLANTED[rule][number](board)
    assert list(RULES[rule](board)) != []


# --- places and names -----------------------------------------------------------------------------


def overlaps(board: Json) -> list[str]:
    """Cells of the grid that two panels have, and panels that leave it."""
    taken: dict[tuple[int, int], str] = {}
    found = []
    for panel in board["panels"]:
        at = panel["gridPos"]
        if at["x"] < 0 or at["x"] + at["w"] > WIDTH or at["w"] < 1 or at["h"] < 1:
            found.append(f"{panel['title']} leaves the grid")
        for cell in (
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        ):
            if cell in taken:
                found.append(f"{panel['title']} lies on {taken[cell]}")
                break
            taken[cell] = panel["title"]
    return found


@EACH
def test_no_panel_lies_on_another_or_leaves_the_grid(board: Json) -> None:
    assert overlaps(board) == []


def test_panels_that_overlap_are_found() -> None:
    board = committed()[0]
    panels(board)[1]["gridPos"]["x"] -= 1
    assert len(overlaps(board)) == 1
    board = committed()[0]
    panels(board)[0]["gridPos"]["x"] = WIDTH
    assert len(overlaps(board)) >= 1


@EACH
def test_no_two_panels_have_one_id_and_no_two_queries_of_one_a_letter(board: Json) -> None:
    numbers = [panel["id"] for panel in everything(board)]
    assert len(set(numbers)) == len(numbers)
    for panel in panels(board):
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)


def test_no_two_boards_have_one_uid_or_one_title() -> None:
    assert {board["uid"]: board["title"] for board in BOARDS} == TITLES
    assert len(set(TITLES.values())) == len(TITLES)


@EACH
def test_every_link_leads_to_a_board_or_to_a_page_of_promheal(board: Json) -> None:
    found = set(links(board))
    for url in found:
        path = urlsplit(url).path
        if path.startswith("/d/"):
            assert path.removeprefix("/d/") in TITLES, url
        else:
            assert re.match(r"\$\{promheal_url\}/(\?|$|runs\?strategy=\$|strategies/\$)", url), url
    others = {f"/d/{uid}" for uid in TITLES} - {f"/d/{board['uid']}"}
    assert others <= {link["url"] for link in board["links"]}
    assert all(link["includeVars"] and link["keepTime"] for link in board["links"][:3])


@EACH
def test_every_variable_that_is_used_is_there(board: Json) -> None:
    known = {one["name"] for one in board["templating"]["list"]}
    used = {
        match[1] or match[2]
        for text_ in (
            *(query.expr for query in (*targets(board), *marks(board))),
            *(one["query"] for one in variables(board)),
            *(url for url in links(board)),
        )
        for match in re.finditer(r"\$(?:(\w+)|\{(\w+)[:}.])", text_)
    }
    assert {name for name in used if not name.startswith("__")} <= known
    assert known - {"datasource"} <= used  # that one has a rule


# --- metrics --------------------------------------------------------------------------------------

OTHERS = {"up"}
"""What Prometheus itself says of a target."""


@pytest.fixture
def client(config: Path, make_service: Callable[..., Promheal]) -> FlaskClient:
    """Of a receiver that tells somebody, since messages are counted by channel."""
    told = {"notify": {"channels": {"team": {"url": "json://127.0.0.1:9/"}}}}
    with (config / "promheal.yml").open("a") as file:
        yaml.safe_dump(told, file)
    service = make_service()
    service.metrics.began("latency")  # or it has no histograms
    return create_app(service).test_client()


def asked(board: Json) -> dict[str, set[str]]:
    """The series that a board asks for, with the labels that it wants of them."""
    found: dict[str, set[str]] = {}
    expressions = [query.expr for query in (*targets(board), *marks(board))]
    expressions += [label_values(one["query"])[0] for one in variables(board)]
    for expr in expressions:
        for selector in selectors(expr):
            labels = {one.name for one in selector.matchers.matchers}
            found.setdefault(str(selector.name), set()).update(labels - {"job", "instance"})
    return found


def exposed(client: FlaskClient) -> dict[str, tuple[str, set[str]]]:
    """Each series' family and labels; a histogram counts as one."""
    return {
        sample.name: (family.name, set(sample.labels))
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


@EACH
def test_what_a_board_asks_for_is_there_with_its_labels(board: Json, client: FlaskClient) -> None:
    known = exposed(client)
    for name, labels in asked(board).items():
        if name not in OTHERS:
            assert labels <= known[name][1], name


def test_every_metric_is_on_a_board(client: FlaskClient) -> None:
    known = exposed(client)
    shown = {known[name][0] for board in BOARDS for name in asked(board) if name not in OTHERS}
    assert {family for family, _ in known.values()} <= shown


@EACH
def test_what_every_program_says_is_asked_of_promheal_only(board: Json) -> None:
    """With all jobs chosen, `up` would count everything that Prometheus scrapes."""
    for where, expr, _ in targets(board):
        others = [s for s in selectors(expr) if not str(s.name).startswith("promheal_")]
        assert expr.count("and on (job, instance) last_over_time(promheal_build_info{") == len(
            others
        ), where


# --- meaning --------------------------------------------------------------------------------------


def mapped(panel: Json) -> dict[str, tuple[str, str]]:
    return {
        value: (result["text"], result["color"])
        for mapping in panel["fieldConfig"]["defaults"].get("mappings", [])
        for value, result in mapping["options"].items()
    }


def test_every_state_of_a_breaker_has_a_name_and_a_colour_of_its_own() -> None:
    found = [
        panel
        for board in BOARDS
        for panel in panels(board)
        if "promheal_breaker_state{" in panel["targets"][0]["expr"]
    ]
    assert [panel["type"] for panel in found] == ["state-timeline", "stat", "state-timeline"]
    for panel in found:
        assert mapped(panel) == {
            "0": ("CLOSED", "green"),
            "1": ("HALF_OPEN", "yellow"),
            "2": ("OPEN", "red"),
            "3": ("PERMANENT_OPEN", "dark-red"),
        }
        assert {state for state, _ in mapped(panel).values()} == set(BreakerState)
        # Each state but the one that is 0 has its number in the query.
        numbers = re.findall(r'(\d) \* [^{]+{[^}]*state="(\w+)"', panel["targets"][0]["expr"])
        assert dict(numbers) == {n: state for n, (state, _) in mapped(panel).items() if n != "0"}


def test_every_outcome_has_a_colour_wherever_runs_are_shown_by_it() -> None:
    shown = [
        {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        for board in BOARDS
        for panel in panels(board)
        if panel["type"] == "timeseries" and panel["title"] == "Runs by outcome"
    ]
    assert shown == [set(Outcome)] * 2


@EACH
def test_heals_are_marked_where_strategies_are_shown(board: Json) -> None:
    names = [query.where for query in marks(board)]
    heals = [] if board["uid"] == "promheal-internals" else ["Healed", "Not healed"]
    assert names == [*heals, "Breaker opened", "Dormant"]
    assert all(one["step"] == "30s" for one in board["annotations"]["list"])
