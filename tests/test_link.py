from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.policy.link import MAX_LINK, expression_of

EXPR = "sum(rate(shop_errors_total[5m])) > 0.5"


def explore(name: str, state: object) -> str:
    return f"https://g.example/explore?orgId=1&{name}={quote(json.dumps(state))}"


def queries(*expressions: str) -> dict[str, object]:
    found = [{"refId": chr(65 + n), "expr": text} for n, text in enumerate(expressions)]
    return {"datasource": "P", "queries": found}


@pytest.mark.parametrize(
    ("link", "expression"),
    [
        ("http://p:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1", "up == 0"),
        ("http://p:9090/prefix/graph?g0.expr=up", "up"),
        (f"http://p:9090/graph?g0.expr={quote_plus(EXPR)}&g1.expr=up", EXPR),
        (f"http://vm:8428/vmui/#/?g0.expr={quote_plus(EXPR)}&g0.tab=0", EXPR),
        (f"http://vm/select/0/vmui/?x=1#/dashboards?g0.expr={quote_plus(EXPR)}", EXPR),
        (f"https://c.example/monitoring/query-browser?query0={quote_plus(EXPR)}", EXPR),
        (explore("left", queries(EXPR)), EXPR),
        (explore("left", ["now-1h", "now", "VM", {"expr": EXPR}, {"mode": "Metrics"}]), EXPR),
        (explore("panes", {"x": queries(EXPR)}), EXPR),
        (explore("panes", {"x": queries(EXPR), "y": queries(EXPR)}), EXPR),
        # It is not said which of them is the alert's.
        (explore("panes", {"x": queries(EXPR), "y": queries("up")}), None),
        (explore("left", queries("up", "up == 0")), None),
        # Nothing, or nothing that makes sense.
        ("", None),
        ("http://grafana/alerting/x", None),
        ("http://vm:8880/vmalert/alert?group_id=1&alert_id=2", None),
        ("http://[broken/graph?g0.expr=up", None),
        ("http://p/graph?g0.expr=", None),
        ("http://p/graph?g0.expr=%20", None),
        ("http://p/graph?g0.expr=up%00", None),
        (explore("left", {"queries": {"expr": EXPR}}), None),
        (explore("left", {"queries": [{"expr": [EXPR]}, None, 1]}), None),
        (explore("panes", [1, "two", None]), None),
        (explore("panes", 7), None),
        ("https://g.example/explore?left={no+json", None),
        ("https://g.example/explore?left=%ff%fe", None),
    ],
)
def test_the_expression_of_a_link(link: str, expression: str | None) -> None:
    assert expression_of(link) == expression


@pytest.mark.parametrize(
    "bomb",
    [
        "https://g.example/explore?left=" + "[" * 60_000,
        "https://g.example/explore?panes=" + '{"a":' * 12_000,
        "https://g.example/explore?left=" + "[" * 30_000 + "]" * 30_000,
        "http://p/graph?" + "&".join(f"g{n}.expr=up" for n in range(5_000)),
        "http://p/graph?g0.expr=" + "u" * MAX_LINK,
        "#" * 60_000,
    ],
    ids=["open", "objects", "closed", "fields", "long", "fragments"],
)
def test_a_bomb_of_a_link_carries_nothing(bomb: str) -> None:
    assert expression_of(bomb) is None


_JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["queries", "expr", "a"]), inner)
    ),
)


@given(
    st.text()
    | st.text().map(lambda text: f"http://p/?g0.expr={text}")
    | _JSON.map(lambda state: explore("panes", state))
    | _JSON.map(lambda state: explore("left", state))
)
@settings(max_examples=300, deadline=None)
def test_no_link_is_an_error(link: str) -> None:
    found = expression_of(link)
    assert found is None or found.strip()
