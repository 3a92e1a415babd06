"""What is in a board, and the rules of Grafana's dashboard linter, for tests.

The rules are those of https://github.com/grafana/dashboard-linter for Prometheus, written anew,
since it is a program in Go. Where it looks at some kinds of panels only, here all are looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

import promql_parser as parser

from tests.tools import REPOSITORY

Json: TypeAlias = dict[str, Any]

GRAFANA: Final = REPOSITORY / "grafana"
FILES: Final = sorted((GRAFANA / "dashboards").glob("*.json"))

DURATIONS: Final = {"__rate_interval": "4m3s", "__range": "7h1m"}
"""What Grafana's own variables stand for where an expression is only parsed."""
UNITS: Final = frozenset(
    {
        *("none", "short", "percent", "percentunit", "hex", "string"),
        *("bool", "bool_yes_no", "bool_on_off"),
        *("bytes", "decbytes", "Bps", "binBps"),
        *("s", "ms", "µs", "m", "h", "d", "dtdurations", "clocks"),
        *("dateTimeAsIso", "dateTimeAsLocal", "dateTimeAsSystem", "dateTimeFromNow"),
        *("cps", "ops", "reqps", "rps", "wps", "iops", "cpm", "opm", "rpm", "wpm"),
    }
)
"""Of Grafana's units, those that a receiver can have a use for."""


class Query(NamedTuple):
    where: str
    """The panel, variable or annotation."""
    expr: str
    instant: bool = False


@cache
def _read(uid: str) -> str:
    return (GRAFANA / "dashboards" / f"{uid}.json").read_text(encoding="utf-8")


def committed() -> list[Json]:
    """The boards as they are in the repository, each time anew, to be planted with errors."""
    return [json.loads(_read(path.stem)) for path in FILES]


def everything(board: Json) -> list[Json]:
    """All panels, the rows too, and those inside collapsed rows."""
    return [one for panel in board["panels"] for one in (panel, *panel.get("panels", []))]


def panels(board: Json) -> list[Json]:
    return [panel for panel in everything(board) if panel["type"] != "row"]


def targets(board: Json) -> list[Query]:
    return [
        Query(f"{panel['title']}: {target['refId']}", target["expr"], target.get("instant", False))
        for panel in panels(board)
        for target in panel.get("targets", [])
    ]


def marks(board: Json) -> list[Query]:
    return [Query(one["name"], one["expr"]) for one in board["annotations"]["list"]]


def variables(board: Json, kind: str = "query") -> list[Json]:
    return [one for one in board["templating"]["list"] if one["type"] == kind]


def label_values(query: str) -> tuple[str, str]:
    """The selector and the label of a variable's query."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert found, query
    return found[1], found[2]


def links(thing: Any) -> Iterator[str]:
    """All addresses that are linked to, from anywhere."""
    if isinstance(thing, dict):
        if isinstance(thing.get("url"), str) and "title" in thing:
            yield thing["url"]
        thing = list(thing.values())
    if isinstance(thing, list):
        for one in thing:
            yield from links(one)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Put values for `$name` and `${name}`; a name that has none stays."""

    def value(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2], match[0])

    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, text)


# --- PromQL ---------------------------------------------------------------------------------------


def parsed(expr: str) -> parser.Expr:
    """The expression as a tree; ValueError where it is none."""
    return parser.parse(filled(expr, DURATIONS))


def _below(node: parser.Expr) -> list[parser.Expr]:
    match node:
        case parser.BinaryExpr():
            return [node.lhs, node.rhs]
        case parser.Call():
            return list(node.args)
        case parser.MatrixSelector():
            return [node.vector_selector]
        case parser.VectorSelector() | parser.NumberLiteral() | parser.StringLiteral():
            return []
        case parser.AggregateExpr():
            return [one for one in (node.expr, node.param) if one is not None]
        case parser.ParenExpr() | parser.UnaryExpr() | parser.SubqueryExpr():
            return [node.expr]
        case _:
            raise AssertionError(node)


def walk(
    node: parser.Expr, above: tuple[parser.Expr, ...] = ()
) -> Iterator[tuple[parser.Expr, tuple[parser.Expr, ...]]]:
    """Each node, with those that hold it, the nearest last."""
    yield node, above
    for each in _below(node):
        yield from walk(each, (*above, node))


def selectors(expr: str) -> list[parser.VectorSelector]:
    return [node for node, _ in walk(parsed(expr)) if isinstance(node, parser.VectorSelector)]


# --- rules ----------------------------------------------------------------------------------------

Rule: TypeAlias = Callable[[Json], Iterator[str]]
"""Says what a board breaks, a line each. What does not parse breaks target-promql only."""


def _template_datasource(board: Json) -> Iterator[str]:
    found = [(one["name"], one["label"], one["query"]) for one in variables(board, "datasource")]
    if found != [("datasource", "Data source", "prometheus")]:
        yield f"the data source is no variable, or not the one: {found}"


def _template(name: str) -> Rule:
    def rule(board: Json) -> Iterator[str]:
        found = [one for one in board["templating"]["list"] if one["name"] == name]
        if len(found) != 1:
            yield f"{len(found)} variables ${name}"
            return
        for key, wanted in {
            "type": "query", "label": name.title(), "multi": True, "allValue": ".+",
        }.items():  # fmt: skip
            if found[0].get(key) != wanted:
                yield f"${name}: {key} is {found[0].get(key)!r}, not {wanted!r}"
        if found[0].get("datasource", {}).get("uid") not in {"$datasource", "${datasource}"}:
            yield f"${name} does not ask $datasource"

    return rule


def _template_label_promql(board: Json) -> Iterator[str]:
    for one in variables(board):
        try:
            parsed(label_values(one["query"])[0])
        except (AssertionError, ValueError) as error:
            yield f"${one['name']}: {error}"


def _template_on_time_change_reload(board: Json) -> Iterator[str]:
    for one in variables(board):
        if one.get("refresh") != 2:
            yield f"${one['name']} is not asked anew when the time changes"


def _panel_datasource(board: Json) -> Iterator[str]:
    for panel in panels(board):
        for one in (panel, *panel.get("targets", [])):
            if one.get("datasource", {}).get("uid") not in {"$datasource", "${datasource}"}:
                yield f"{panel['title']} does not ask $datasource"


def _panel_title_description(board: Json) -> Iterator[str]:
    for panel in panels(board):
        if not panel.get("title") or not panel.get("description"):
            yield f"{panel['id']} has no title or no description"


def _panel_units(board: Json) -> Iterator[str]:
    for panel in panels(board):
        if panel["fieldConfig"]["defaults"].get("unit") not in UNITS:
            yield f"{panel['title']}: {panel['fieldConfig']['defaults'].get('unit')!r} is no unit"
        for override in panel["fieldConfig"]["overrides"]:
            for each in override["properties"]:
                if each["id"] == "unit" and each["value"] not in UNITS:
                    yield f"{panel['title']}: {each['value']!r} is no unit"


def _panel_no_targets(board: Json) -> Iterator[str]:
    for panel in panels(board):
        if not panel.get("targets"):
            yield f"{panel['title']} asks nothing"


def _target_promql(board: Json) -> Iterator[str]:
    for where, expr, _ in (*targets(board), *marks(board)):
        try:
            parsed(expr)
        except ValueError as error:
            yield f"{where}: {error}"


def _trees(board: Json) -> Iterator[tuple[Query, parser.Expr]]:
    for query in (*targets(board), *marks(board)):
        try:
            yield query, parsed(query.expr)
        except ValueError:
            continue


def _target_rate_interval(board: Json) -> Iterator[str]:
    wanted = parsed("a[$__rate_interval]")
    assert isinstance(wanted, parser.MatrixSelector)
    for query, tree in _trees(board):
        for node, above in walk(tree):
            if isinstance(node, parser.MatrixSelector) and node.range != wanted.range:
                call = above[-1] if above else None
                if isinstance(call, parser.Call) and call.func.name in {"rate", "irate"}:
                    yield f"{query.where}: a rate over something else than $__rate_interval"


def _target_matcher(label: str) -> Rule:
    def rule(board: Json) -> Iterator[str]:
        for query, tree in _trees(board):
            for node, _ in walk(tree):
                if isinstance(node, parser.VectorSelector) and not any(
                    (one.name, one.op, one.value) == (label, parser.MatchOp.Re, f"${label}")
                    for one in node.matchers.matchers
                ):
                    yield f'{query.where}: {node.name} without {label}=~"${label}"'

    return rule


def _target_counter_agg(board: Json) -> Iterator[str]:
    for query, tree in _trees(board):
        for node, above in walk(tree):
            if isinstance(node, parser.VectorSelector) and (node.name or "").endswith("_total"):
                call = above[-2] if len(above) > 1 else None
                # changes() says that something happened, not how often, which annotations want.
                allowed = {"rate", "irate", "increase", "changes"}
                if not isinstance(call, parser.Call) or call.func.name not in allowed:
                    yield f"{query.where}: {node.name} is shown as it is"


def _uneditable(board: Json) -> Iterator[str]:
    if board.get("editable") is not False:
        yield "may be edited"


RULES: Final[Mapping[str, Rule]] = {
    "template-datasource": _template_datasource,
    "template-job": _template("job"),
    "template-instance": _template("instance"),
    "template-label-promql": _template_label_promql,
    "template-on-time-change-reload": _template_on_time_change_reload,
    "panel-datasource": _panel_datasource,
    "panel-title-description": _panel_title_description,
    "panel-units": _panel_units,
    "panel-no-targets": _panel_no_targets,
    "target-promql": _target_promql,
    "target-rate-interval": _target_rate_interval,
    "target-job": _target_matcher("job"),
    "target-instance": _target_matcher("instance"),
    "target-counter-agg": _target_counter_agg,
    "uneditable-dashboard": _uneditable,
}
