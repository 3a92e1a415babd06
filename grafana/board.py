"""What makes a board of panels? Rows, variables, annotations, and links to the other boards.

What the SDK adds and Grafana does not need is taken away again, so that a change of a board is as
small in its JSON as it is in its code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from grafana.panels import BAD, DATASOURCE, GOOD, Link, Panel
from grafana.promql import changed, of, total
from receiver.policy.run import Outcome

Json: TypeAlias = dict[str, Any]
Variable: TypeAlias = d.QueryVariable

WIDTH: Final = 24
"""Columns of Grafana's grid."""
TITLES: Final = {
    "promheal-overview": "promheal / Overview",
    "promheal-strategy": "promheal / Strategy",
    "promheal-internals": "promheal / Receiver internals",
    "promheal-audit": "promheal / Audit",
}
"""The boards by their uid, which is part of links to them and never changes."""
NEEDLESS: Final = frozenset({"auto", "auto_min", "auto_count", "skipUrlSync", "footer"})
"""What the SDK writes into each variable, and only one of another kind has; and a table's footer,
which tables of now do not know."""
PROMHEAL: Final = "http://127.0.0.1:3001"
"""Where promheal's pages are, unless a board is told otherwise."""


class Row(NamedTuple):
    title: str
    panels: tuple[Panel, ...]
    """They go on below where a line of the grid is full."""


def row(title: str, *panels: Panel) -> Row:
    return Row(title, panels)


def to_strategy(label: str) -> Link:
    """Lead from a value to the board of its strategy; *label* is what a link calls it."""
    return Link(
        "Strategy",
        f"/d/promheal-strategy?var-strategy=${{{label}}}&${{datasource:queryparam}}"
        "&${job:queryparam}&${instance:queryparam}&${promheal_url:queryparam}&${__url_time_range}",
    )


def to_runs(strategy: str) -> Link:
    return Link("Runs", f"${{promheal_url}}/runs?strategy={strategy}", outside=True)


SERIES_STRATEGY: Final = "__field.labels.strategy"
CELL_STRATEGY: Final = "__data.fields.strategy"
STRATEGIES: Final = f"label_values({of('promheal_alerts_firing')}, strategy)"
"""Which strategies there are."""


def one(name: str, query: str, why: str) -> Variable:
    """Have one value chosen of those that Prometheus knows."""
    return (
        d.QueryVariable(name)
        .label(name.title())
        .description(why)
        .query(query)
        .datasource(DATASOURCE)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )


def several(name: str, query: str, why: str) -> Variable:
    """Have any number of values chosen, at first all."""
    return (
        one(name, query, why)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".+")
        .current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def board(
    uid: str,
    description: str,
    rows: Iterable[Row],
    *,
    variables: Iterable[Variable] = (),
    annotate: str = "",
    since: str = "now-6h",
    refresh: str = "30s",
) -> Json:
    """Assemble a board; *annotate* is the matcher of strategies whose heals are marked, if any."""
    built = (
        d.Dashboard(TITLES[uid])
        .uid(uid)
        .description(description)
        .tags(["promheal"])
        .readonly()
        .timezone("browser")
        .time(since, "now")
        .refresh(refresh)
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .version(1)
        .links(list(_links(uid)))
        .variables([_datasource(), *_chosen(), *variables, _promheal_url()])
        .annotations(list(_annotations(annotate)))
    )
    _place(built, rows)
    found: Json = json.loads(json.dumps(built.build(), cls=JSONEncoder))
    del found["schemaVersion"], found["version"]  # to be seen at the end, where Grafana has them
    return {**_plain(found), "schemaVersion": 42, "version": 1}


def text(found: Mapping[str, Any]) -> str:
    """Return a board as its file has it."""
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _place(built: d.Dashboard, rows: Iterable[Row]) -> None:
    number, y = 0, 0
    for each in rows:
        number += 1
        where = dashboard.GridPos(h=1, w=WIDTH, x=0, y=y)
        built.with_row(d.Row(each.title).id(number).grid_pos(where))
        x, y, height = 0, y + 1, 0
        for panel in each.panels:
            number += 1
            ours = panel.build()
            assert ours.grid_pos is not None
            if x + ours.grid_pos.w > WIDTH:
                x, y, height = 0, y + height, 0
            ours.id_val, ours.grid_pos.x, ours.grid_pos.y = number, x, y
            built.with_panel(panel)
            x, height = x + ours.grid_pos.w, max(height, ours.grid_pos.h)
        y += height


def _datasource() -> d.DatasourceVariable:
    return (
        d.DatasourceVariable("datasource")
        .label("Data source")
        .description("The Prometheus that scrapes promheal.")
        .type("prometheus")
    )


def _chosen() -> Iterable[Variable]:
    why = "Two promheals on one journal count the same twice: choose one of them."
    yield several("job", "label_values(promheal_build_info, job)", why)
    yield several("instance", 'label_values(promheal_build_info{job=~"$job"}, instance)', why)


def _promheal_url() -> d.TextBoxVariable:
    return (
        d.TextBoxVariable("promheal_url")
        .label("promheal")
        .description("Where your browser finds promheal's pages, to which links lead.")
        .default_value(PROMHEAL)
        .current(dashboard.VariableOption(selected=True, text=PROMHEAL, value=PROMHEAL))
        .options([dashboard.VariableOption(selected=True, text=PROMHEAL, value=PROMHEAL)])
    )


def _links(uid: str) -> Iterable[d.DashboardLink]:
    for other, title in TITLES.items():
        if other != uid:
            yield (
                d.DashboardLink(title.removeprefix("promheal / "))
                .type(dashboard.DashboardLinkType.LINK)
                .icon("dashboard")
                .tooltip("With the same time, receivers and strategy.")
                .url(f"/d/{other}")
                .include_vars(include_vars=True)
                .keep_time(keep_time=True)
            )
    yield (
        d.DashboardLink("promheal")
        .type(dashboard.DashboardLinkType.LINK)
        .icon("external link")
        .tooltip("promheal's own page.")
        .url("${promheal_url}/")
        .target_blank(target_blank=True)
    )


def _annotations(matcher: str) -> Iterable[d.AnnotationQuery]:
    healed = f'outcome="{Outcome.HEALED}"'
    others = f'outcome!="{Outcome.HEALED}"'
    of_heals = ("strategy", "outcome")
    if matcher:
        for name, colour, outcome in (
            ("Healed", GOOD, healed),
            ("Not healed", "orange", others),
        ):
            expr = total(changed("promheal_heals_total", matcher, outcome), *of_heals)
            yield _annotation(name, colour, expr, "{{strategy}}: {{outcome}}", of_heals)
    to = 'to=~"OPEN|PERMANENT_OPEN"'
    opened = total(changed("promheal_breaker_transitions_total", to), "breaker", "to")
    yield _annotation("Breaker opened", BAD, opened, "{{breaker}}: {{to}}", ("breaker", "to"))
    dormant = f"{of('promheal_dormant')} > 0"
    yield _annotation("Dormant", "purple", dormant, "Dormant: {{instance}}", ("instance",))


def _annotation(
    name: str, colour: str, expr: str, title: str, tags: tuple[str, ...]
) -> d.AnnotationQuery:
    return (
        d.AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(enable=True)
        .icon_color(colour)
        .expr(expr)
        .step("30s")
        .title_format(title)
        .tag_keys(",".join(tags))
        .use_value_for_time(use_value_for_time=False)
    )


def _plain(found: Any) -> Any:
    """Take away what the SDK says besides: it would put links and annotations into a menu."""
    if isinstance(found, list):
        return [_plain(one) for one in found]
    if not isinstance(found, dict):
        return found
    if found.keys() >= {"title", "url", "asDropdown"} and not found["icon"]:  # a link of a value
        return {name: found[name] for name in ("title", "url", "targetBlank")}
    return {
        name: _plain(value) for name, value in found.items()
        if name not in NEEDLESS and not (name == "placement" and value == "inControlsMenu")
    }  # fmt: skip
