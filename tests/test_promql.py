from __future__ import annotations

import re
import string
import time

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.policy.promql import MAX_EXPRESSION, MAX_OPERATORS, quote, same_expression, unquote
from receiver.policy.proof.flow import places
from receiver.policy.proof.placement import Flow, Placement
from receiver.policy.proof.syntax import parse
from receiver.policy.proof.tree import Selector, show


def selectors(expression: str) -> list[tuple[Selector, Placement]]:
    tree = parse(expression)
    at = places(tree.root)
    return [(each, at[each.index]) for each in tree.selectors]


@pytest.mark.parametrize(
    ("expression", "texts"),
    [
        ("up", ["up"]),
        ("up == 0", ["up"]),
        ("(-up)", ["up"]),
        ('up{job="a",x=~"b.*",y!="c",z!~"d"} == 0', ['up{job="a",x=~"b.*",y!="c",z!~"d"}']),
        ('{__name__="up",job="a"}', ['{__name__="up",job="a"}']),
        ('{"my.metric","a.b"="c"}', ['{__name__="my.metric","a.b"="c"}']),
        ("job:errors:rate5m > 1", ["job:errors:rate5m"]),
        ("a + b * c", ["a", "b", "c"]),
        ("a > 1 or b > 2", ["a", "b"]),
        ("a > 1 and on(x) b > 2", ["a", "b"]),
        ("rate(a[5m]) / rate(b[5m])", ["a", "b"]),
        ("topk(scalar(k), a)", ["k", "a"]),
        ("quantile_over_time(scalar(q), a[5m])", ["q", "a"]),
        ("max_over_time(rate(a[5m])[1h:1m]) > 1", ["a"]),
        ("histogram_quantile(0.9, sum by (le) (rate(a_bucket[5m])))", ["a_bucket"]),
        ('label_replace(a, "x", "$1", "y", "(.*)")', ["a"]),
        ('count_values("x", a)', ["a"]),
        ("a > a offset 1h", ["a", "a"]),
        ("a > 5 or a < 1", ["a", "a"]),
        ("vector(1)", []),
        ("time() > bool 3", []),
        ("vector(time()) > 3", []),
        ("1", []),
    ],
)
def test_finds_every_selector(expression: str, texts: list[str]) -> None:
    assert [selector.plain() for selector, _ in selectors(expression)] == texts


@pytest.mark.parametrize(
    ("expression", "offsets"),
    [
        ("a offset 5m", [300.0]),
        ("a offset -5m", [-300.0]),
        ("rate(a[5m] offset 90s)", [90.0]),
        ("max_over_time(rate(a[5m] offset 1m)[1h:1m] offset 2h)", [7260.0]),
        ("a @ end() offset 1m", [60.0]),
        ("max_over_time((a @ end())[1h:1m] offset 2h)", [0.0]),
    ],
)
def test_knows_how_far_back_a_selector_reads(expression: str, offsets: list[float]) -> None:
    assert [place.offset for _, place in selectors(expression)] == offsets


@pytest.mark.parametrize(
    ("expression", "optional"),
    [
        ("a unless b", {"b"}),
        ("a unless on(x) (b + c)", {"b", "c"}),
        ("(a unless b) unless c", {"b", "c"}),
        ('absent(a{x="y"}) or b', {'a{x="y"}'}),
        ("absent_over_time(a[5m])", {"a"}),
        ("absent(sum(a))", {"a"}),
        ("present_over_time(a[5m])", set()),
        ("a > a @ 1600000000", {"a"}),
        ("max_over_time(a[5m:1m] @ 1600000000)", {"a"}),
        ("a @ start()", set()),
        ("a and b or c", set()),
    ],
)
def test_knows_what_a_healthy_state_may_lack(expression: str, optional: set[str]) -> None:
    assert {s.plain() for s, place in selectors(expression) if place.optional} == optional


def carried(expression: str, names: str = "i j n s") -> dict[str, set[str]]:
    return {
        s.plain(): {n for n in names.split() if n in place.flow}
        for s, place in selectors(expression)
    }


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("a > 1", {"a": {"i", "j", "n", "s"}}),
        ("sum(a) > 1", {"a": set()}),
        ("sum by (s, i) (a) > 1", {"a": {"s", "i"}}),
        ('sum by ("s") (a) > 1', {"a": {"s"}}),
        ("sum without (i) (a) > 1", {"a": {"j", "n", "s"}}),
        ("max by (s) (sum by (s, i) (a))", {"a": {"s"}}),
        ("topk by (s) (3, a)", {"a": {"i", "j", "n", "s"}}),
        ("a * on(i) b", {"a": {"i"}, "b": {"i"}}),
        ("a * ignoring(i) b", {"a": {"j", "n", "s"}, "b": {"j", "n", "s"}}),
        ("a * on(i) group_left(n) b", {"a": {"i", "j", "s"}, "b": {"i", "n"}}),
        ("a * on(i) group_right(n) b", {"a": {"i", "n"}, "b": {"i", "j", "s"}}),
        ("a * ignoring(i, n) group_left(n) b", {"a": {"i", "j", "s"}, "b": {"j", "n", "s"}}),
        ("a and on(s) b", {"a": {"i", "j", "n", "s"}, "b": {"s"}}),
        ("a unless ignoring(s) b", {"a": {"i", "j", "n", "s"}, "b": {"i", "j", "n"}}),
        ("a or on(s) b", {"a": {"i", "j", "n", "s"}, "b": {"i", "j", "n", "s"}}),
        ("a > scalar(b)", {"a": {"i", "j", "n", "s"}, "b": set()}),
        ("sum by (s) (a * on(i) group_left b)", {"a": {"s"}, "b": set()}),
    ],
)
def test_knows_whose_labels_reach_the_result(expression: str, labels: dict[str, set[str]]) -> None:
    assert carried(expression) == labels


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("", "no expression"),
        ("up ==", "invalid promql"),
        ('up{job="a', "unterminated"),
        ("foo(up)", "unknown function"),
        ("up[5m]", "instant vector"),
        ("rate(up[5m])[1h:1m]", "instant vector"),
        ('"text"', "instant vector"),
        ('up{a="b" or c="d"}', "no PromQL"),
        ("up) or (up", "unexpected right parenthesis"),
        ("(" * 3000 + "up" + ")" * 3000, str(MAX_OPERATORS)),
        ("-" * 20_000, str(MAX_EXPRESSION)),
        ("up" + "+up" * 3000, str(MAX_OPERATORS)),
        ("up" + " and up" * 300, str(MAX_OPERATORS)),
    ],
)
def test_refuses_what_is_no_rule(expression: str, problem: str) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse(expression)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "expression",
    [
        r"""up{a=~`\d+\.x`}""",
        r"""up{a=~"\\Qx.y\\E"}""",
        r"""up{a=~"(\\pL{100}){50}"}""",
        "up{a='b\"c'}",
        """up{a="((((",b="]"}""",
        "up{a='#'}",
        "up{a='§0',b=\"§1\"}",
    ],
)
def test_literals_come_out_as_they_were_written(expression: str) -> None:
    assert [selector.plain() for selector, _ in selectors(expression)] == [expression]


def test_comments_and_white_space_do_not_matter() -> None:
    assert parse('up # { "\n  {a="b  # c"}\n\t> 0 # d') == parse('up {a="b  # c"} > 0')
    assert same_expression("up\n  > 0", "up > 0 # so")
    assert not same_expression('up{a="b  c"}', 'up{a="b c"}')
    assert same_expression("up{", "up{")


@pytest.mark.parametrize(
    ("expression", "scalar"),
    [
        ("1", True),
        ("-(1 + time())", True),
        ("scalar(up)", True),
        ("vector(1)", False),
        ("up", False),
    ],
)
def test_tells_numbers_from_vectors(expression: str, scalar: bool) -> None:
    assert parse(expression).is_scalar is scalar


def test_flow_narrows_only() -> None:
    assert Flow().keep(["a", "b"]).keep(["b", "c"]) == Flow(frozenset({"b"}))
    assert "a" not in Flow().drop(["a"]).keep(["a"])


values = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(values)
def test_a_quoted_value_is_read_back_as_it_was(value: str) -> None:
    parsed = promql_parser.parse(f"up{{a={quote(value)},b!={quote(value)}}}")
    assert isinstance(parsed, promql_parser.VectorSelector)
    assert [m.value for m in parsed.matchers.matchers] == [value, value]
    assert unquote(quote(value)) == value


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        (r'"a\n\"b\\"', 'a\n"b\\'),
        (r"'\x41\u00e9\U0001F600\101'", "A\u00e9\U0001f600A"),
        (r"`a\n`", r"a\n"),
    ],
)
def test_knows_what_a_literal_stands_for(literal: str, value: str) -> None:
    assert unquote(literal) == value


def test_an_escape_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no escape"):
        unquote(r'"\d"')


@given(values, values, st.sampled_from(["=", "!=", "=~", "!~"]))
def test_a_selector_keeps_its_matchers(one: str, other: str, op: str) -> None:
    text = f"up{{a{op}{quote(one)},b={quote(other)}}}"
    ((selector, _),) = selectors(f"sum(rate({text}[5m] offset 1m)) > 1")
    assert selector.plain() == text
    ((again, _),) = selectors(selector.plain())
    assert again.plain() == text


@given(st.text(string.printable, max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    assert repr(parse(show(found.root))) == repr(found)  # by repr, for NaN is not equal to itself
