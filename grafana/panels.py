"""What is a panel made of? Each kind as a function, so that none lacks what all must have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import common as c
from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.promql import most, of
from receiver.policy.breaker import BreakerState
from receiver.policy.run import Outcome

T = TypeVar("T")
Panel: TypeAlias = Builder[dashboard.Panel]

NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})
DATASOURCE: Final = common.DataSourceRef(type_val="prometheus", uid="$datasource")
GOOD, FAIR, BAD, WORST, PLAIN, GREY = "green", "yellow", "red", "dark-red", "blue", "#808080"

STATES: Final[Mapping[str, str]] = {
    BreakerState.CLOSED: GOOD,
    BreakerState.HALF_OPEN: FAIR,
    BreakerState.OPEN: BAD,
    BreakerState.PERMANENT_OPEN: WORST,
}
"""The colours of a breaker's states, best first; a state's place is its number in queries."""
OUTCOMES: Final[Mapping[str, str]] = {
    Outcome.HEALED: GOOD,
    Outcome.INEFFECTIVE: "orange",
    Outcome.INCONCLUSIVE: FAIR,
    Outcome.FAILED: BAD,
    Outcome.ROLLED_BACK: PLAIN,
    Outcome.ROLLBACK_FAILED: WORST,
    Outcome.CANCELLED: GREY,
    Outcome.UNKNOWN: "purple",
}

Named: TypeAlias = Mapping[float, tuple[str, str]]
"""What values are called, and their colours."""
NO_YES_BAD: Final[Named] = {0: ("no", GOOD), 1: ("yes", BAD)}
NO_YES_GOOD: Final[Named] = {0: ("no", BAD), 1: ("yes", GOOD)}
OFF_ON: Final[Named] = {0: ("off", GREY), 1: ("on", GOOD)}
BREAKER: Final[Named] = {
    number: (str(state), colour) for number, (state, colour) in enumerate(STATES.items())
}

Steps: TypeAlias = Mapping[float, str]
"""From which value on which colour holds; what lies below the first is green."""


class Query(NamedTuple):
    expr: str
    legend: str = ""
    """With `{{label}}` for a label's value."""


class Column(NamedTuple):
    """A number in a table: one query with the same labels as the others."""

    expr: str
    heading: str
    unit: str = "none"
    named: Named = NOTHING
    none: str = ""
    """What stands there for a row that this query does not return."""


class Link(NamedTuple):
    title: str
    url: str
    outside: bool = False
    """Whether it leads away from Grafana."""


def breaker_state(*matchers: str) -> str:
    """Ask for the numbers of breakers' states: each is 0 or 1 a state, and CLOSED counts 0."""
    numbered = [
        f"{number} * " + of("promheal_breaker_state", f'state="{state}"', *matchers)
        for number, state in enumerate(STATES)
    ]
    return most(" or ".join(numbered[1:]), "breaker")


def number(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    steps: Steps = NOTHING,
    named: Named = NOTHING,
    link: Link | None = None,
    decimals: int | None = None,
    none: str = "none",
    width: int = 3,
) -> Panel:
    """One value as it is now, or over the time that is looked at."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .span(width)
        .height(4)
        .datasource(DATASOURCE)
        .unit(unit)
        .no_value(none)
        .mappings(_mappings(named))
        .thresholds(_thresholds(steps))
        .color_scheme(_colour_by_threshold())
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(c.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query("A", expr).instant())
    )
    if decimals is not None:
        panel.decimals(decimals)
    return panel.data_links([_data_link(link)]) if link else panel


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    bars: bool = False,
    colours: Mapping[str, str] = NOTHING,
    link: Link | None = None,
    most: float | None = None,
    whole: bool = False,
    width: int = 12,
) -> Panel:
    """Values in the course of time; bars lie on each other, since they are parts of a whole.

    *whole* where there are no halves, as of alerts.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .span(width)
        .height(8)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .legend(_legend())
        .tooltip(
            c.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
        .line_width(1)
        .show_points(common.VisibilityMode.NEVER)
        .targets([_query(ref, *one).range() for ref, one in _lettered(queries)])
    )
    if bars:
        panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(70)
        panel.stacking(c.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    else:
        panel.fill_opacity(10).line_interpolation(common.LineInterpolation.STEP_AFTER)
    if most is not None:
        panel.max(most)
    if whole:
        panel.decimals(0)
    for name, colour in colours.items():
        panel.override_by_name(name, [_property("color", _fixed(colour))])
    return panel.data_links([_data_link(link)]) if link else panel


def timeline(
    title: str,
    description: str,
    named: Named,
    query: Query,
    *,
    link: Link | None = None,
    width: int = 24,
    height: int = 8,
) -> Panel:
    """What state was it in, and when? A row for each series, coloured by what values are called."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .span(width)
        .height(height)
        .datasource(DATASOURCE)
        .unit("none")
        .mappings(_mappings(named))
        .thresholds(_thresholds({}))
        .color_scheme(_colour_by_threshold())
        .show_value(common.VisibilityMode.NEVER)
        .merge_values(merge_values=True)
        .row_height(0.8)
        .per_page(20)
        .line_width(0)
        .fill_opacity(80)
        .legend(_legend())
        .tooltip(c.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE))
        .with_target(_query("A", query.expr, query.legend).range())
    )
    return panel.data_links([_data_link(link)]) if link else panel


def listing(
    title: str,
    description: str,
    labels: Mapping[str, str],
    *columns: Column,
    links: Mapping[str, Link] = NOTHING,
    colours: Mapping[str, str] = NOTHING,
    none: str = "nothing in this time",
    width: int = 24,
    height: int = 8,
) -> Panel:
    """List a row for each combination of labels, a column for each query, the largest first.

    *labels* have their headings; *links* are by label; *colours* are of the last one's values.
    """
    several = len(columns) > 1
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .span(width)
        .height(height)
        .datasource(DATASOURCE)
        .unit("none")
        .no_value(none)
        .thresholds(_thresholds({}))
        .color_scheme(_colour_by_threshold())
        .align(common.FieldTextAlignment.AUTO)
        .cell_height(common.TableCellHeight.SM)
        .show_header(show_header=True)
        .sort_by([c.TableSortByFieldState().display_name(columns[0].heading).desc(desc=True)])
        .targets(
            [
                _query(ref, column.expr).instant().format(PromQueryFormat.TABLE)
                for ref, column in _lettered(columns)
            ]
        )
    )
    if several:
        panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    order = [*labels, *(f"Value #{ref}" if several else "Value" for ref, _ in _lettered(columns))]
    panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {name: place for place, name in enumerate(order)},
                "renameByName": {},  # links name fields, and must go on finding them
            },
        )
    )
    for label, heading in labels.items():
        properties = [_property("displayName", heading)]
        if label in links:
            properties.append(_property("links", [_data_link(links[label]).build()]))
        if colours and label == list(labels)[-1]:
            named = {
                value: dashboard.ValueMappingResult(color=colour, index=place)
                for place, (value, colour) in enumerate(colours.items())
            }
            properties.append(_property("mappings", [dashboard.ValueMap(options=named)]))
            properties.append(_property("custom.cellOptions", {"type": "color-text"}))
        panel.override_by_name(label, properties)
    for ref, column in _lettered(columns):
        properties = [_property("displayName", column.heading), _property("unit", column.unit)]
        if column.none:
            properties.append(_property("noValue", column.none))
        if column.unit == "none":
            properties.append(_property("decimals", 0))
        if column.named:
            properties.append(_property("mappings", _mappings(column.named)))
            properties.append(_property("custom.cellOptions", {"type": "color-text"}))
        panel.override_by_name(f"Value #{ref}" if several else "Value", properties)
    return panel


def _query(ref: str, expr: str, legend: str = "") -> prometheus.Dataquery:
    query = prometheus.Dataquery().ref_id(ref).datasource(DATASOURCE).expr(expr)
    return query.legend_format(legend) if legend else query


def _legend() -> c.VizLegendOptions:
    return (
        c.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )


def _lettered(things: Iterable[T]) -> Iterable[tuple[str, T]]:
    return zip("ABCDEFGHIJ", things, strict=False)


def _mappings(named: Named) -> list[dashboard.ValueMapping]:
    if not named:
        return []
    options = {
        f"{value:g}": dashboard.ValueMappingResult(text=text, color=colour, index=place)
        for place, (value, (text, colour)) in enumerate(named.items())
    }
    return [dashboard.ValueMap(options=options)]


def _thresholds(steps: Steps) -> d.ThresholdsConfig:
    base = dashboard.Threshold(value=None, color=GOOD if steps else "text")
    later = [dashboard.Threshold(value=value, color=colour) for value, colour in steps.items()]
    return d.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps([base, *later])


def _colour_by_threshold() -> d.FieldColor:
    return d.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS)


def _fixed(colour: str) -> dict[str, str]:
    return {"mode": str(dashboard.FieldColorModeId.FIXED), "fixedColor": colour}


def _property(name: str, value: object) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue(id_val=name, value=value)


def _data_link(link: Link) -> d.DashboardLink:
    return (
        d.DashboardLink(link.title)
        .type(dashboard.DashboardLinkType.LINK)
        .url(link.url)
        .target_blank(target_blank=link.outside)
    )
