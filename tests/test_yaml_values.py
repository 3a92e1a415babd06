from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest

from receiver.errors import ConfigError
from receiver.policy.duration import Duration
from receiver.policy.matcher_syntax import MatcherText
from receiver.yaml.diagnostics import Report
from receiver.yaml.nodes import parse
from receiver.yaml.scalars import BAD
from receiver.yaml.values import Readers
from tests.factories import parse_matcher


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    x: int
    y: str = "there"


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    a: str | None = None
    b: str | None = None

    def __post_init__(self) -> None:
        if (self.a is None) == (self.b is None):
            raise ValueError("write either `a` or `b`")


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    text: str = ""
    maybe: str | None = "set"
    flag: bool = False
    count: int = 0
    some: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    ratio: float = 0.0
    share: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    wait: Duration = 1.0
    soon: Annotated[Duration, msgspec.Meta(gt=0)] = 1.0
    colour: Colour = Colour.RED
    level: Literal["low", "high"] = "low"
    words: tuple[str, ...] = ()
    filled: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("a",)
    short: Annotated[str, msgspec.Meta(max_length=3, pattern="^[a-z]+$")] = "abc"
    numbers: list[int] = msgspec.field(default_factory=list)
    table: dict[str, int] = {}
    inner: Inner | None = None
    match: tuple[MatcherText, ...] = ()
    any: Any = None
    paired: Paired | None = None
    renamed: str = msgspec.field(name="other-name", default="")


def read(text: str) -> tuple[Any, Report]:
    report = Report("f.yml", text)
    node = parse(text, report)
    assert node is not None
    return Readers().of(Fields)(node, report), report


GOOD: list[tuple[str, str, object]] = [
    ("text: no", "text", "no"),
    ("text: 22:30", "text", "22:30"),
    ("text: 010", "text", "010"),
    ("text: true", "text", "true"),
    ("text: 1e3", "text", "1e3"),
    ("text: 'null'", "text", "null"),
    ('text: ""', "text", ""),
    ("text: |\n  a\n  b\n", "text", "a\nb\n"),
    ("maybe:", "maybe", None),
    ("maybe: ~", "maybe", None),
    ("maybe: null", "maybe", None),
    ("maybe: 'null'", "maybe", "null"),
    ("flag: true", "flag", True),
    ("flag: false", "flag", False),
    ("count: -12", "count", -12),
    ("count: 0", "count", 0),
    ("some: 9", "some", 9),
    ("ratio: 1", "ratio", 1.0),
    ("ratio: -0.5e-3", "ratio", -0.0005),
    ("wait: 1h30m", "wait", 5400.0),
    ("wait: '0'", "wait", 0.0),
    ("wait: 0", "wait", 0.0),
    ("colour: green", "colour", Colour.GREEN),
    ("level: high", "level", "high"),
    ("words: [a, no, 1]", "words", ("a", "no", "1")),
    ("words:\n- a\n- 'b'\n", "words", ("a", "b")),
    ("words: []", "words", ()),
    ("numbers: [1, 2]", "numbers", [1, 2]),
    ("table: {a: 1, 2: 3}", "table", {"a": 1, "2": 3}),
    ("inner: {x: 1}", "inner", Inner(x=1)),
    ("inner:", "inner", None),
    ("match: ['a=\"b\"', c=~d]", "match", (parse_matcher('a="b"'), parse_matcher("c=~d"))),
    (
        "any: {a: [1, 2.5, true, null, no, '1', 010], b: {c: }}",
        "any",
        {"a": [1, 2.5, True, None, "no", "1", "010"], "b": {"c": None}},
    ),
    ("paired: {a: x}", "paired", Paired(a="x")),
    ("other-name: x", "renamed", "x"),
]


@pytest.mark.parametrize(("text", "field", "value"), GOOD)
def test_the_type_of_the_field_decides(text: str, field: str, value: object) -> None:
    found, report = read(text)
    assert not report.problems
    assert getattr(found, field) == value
    assert type(getattr(found, field)) is type(value)


# `▸` stands before the place where the problem must be found.
BROKEN = [
    ("▸txet: a", "unknown key 'txet'; did you mean 'text'?"),
    ("▸zzzzz: a", "unknown key 'zzzzz'; known: any, colour, count"),
    ("▸renamed: a", "unknown key 'renamed'"),
    ("▸[]", "expected a mapping, found a list"),
    ("▸x", "expected a mapping, found 'x'"),
    ("text: ▸[a]", "expected a text, found a list"),
    ("text: ▸{a: b}", "expected a text, found a mapping"),
    ("text: ▸{{ labels.service }}", 'write a template in quotes: "{{ … }}"'),
    ("text:▸", 'expected a text, found nothing; write "" for an empty one'),
    ("text: ▸~", "expected a text, found ~"),
    ("text: ▸null", "expected a text, found null"),
    ("flag: ▸yes", "expected true or false, found 'yes'; write true"),
    ("flag: ▸Off", "expected true or false, found 'Off'; write false"),
    ("flag: ▸'true'", "expected true or false, found 'true'; write true"),
    ("flag: ▸maybe", "expected true or false, found 'maybe'"),
    ("flag:▸", "expected true or false, found nothing"),
    ("count: ▸many", "expected a whole number, found 'many'"),
    ("count: ▸010", "expected a whole number, found '010'; write 10"),
    ("count: ▸1_000", "expected a whole number, found '1_000'; write 1000"),
    ("count: ▸0x10", "expected a whole number, found '0x10'"),
    ("count: ▸1:30", "expected a whole number, found '1:30'"),
    ("count: ▸1.5", "expected a whole number, found '1.5'"),
    ("count: ▸'1'", "expected a whole number, found '1'; remove the quotes"),
    ("count: ▸99999999999999999999", "expected a whole number"),
    ("count: ▸[1]", "expected a whole number, found a list"),
    ("some: ▸0", "must be at least 1"),
    ("some: ▸10", "must be at most 9"),
    ("ratio: ▸.inf", "expected a number, found '.inf'"),
    ("ratio: ▸.nan", "expected a number, found '.nan'"),
    ("ratio: ▸1e999", "expected a number, found '1e999'"),
    ("share: ▸0", "must be more than 0"),
    ("share: ▸1.0", "must be less than 1"),
    ("wait: ▸5 minutes", "'5 minutes' is not a duration; write for example 30s"),
    ("wait: ▸60", "'60' is not a duration"),
    ("soon: ▸0s", "must be more than 0"),
    ("colour: ▸gren", "'gren' is none of red, green; did you mean 'green'?"),
    ("colour: ▸blue", "'blue' is none of red, green"),
    ("colour: ▸[red]", "expected red or green, found a list"),
    ("level: ▸mid", "'mid' is none of high, low"),
    ("words: ▸a", "expected a list, found 'a'; write [a]"),
    ("words:▸", "expected a list, found nothing; remove the key, or write []"),
    ("words: [a, ▸{b: c}]", "expected a text, found a mapping"),
    ("filled: ▸[]", "must not be empty"),
    ("short: ▸abcd", "must have at most 3 characters"),
    ("short: ▸A1", "'A1' does not have the right form, which is ^[a-z]+$"),
    ("numbers: [1, ▸x]", "expected a whole number, found 'x'"),
    ("table: {a: ▸b}", "expected a whole number, found 'b'"),
    ("table: ▸[a]", "expected a mapping, found a list"),
    ("table: {▸[a]: 1}", "expected a text, found a list"),
    ("▸[a]: 1", "expected a key, found a list"),
    ("inner: ▸{}", "missing key 'x'"),
    ("inner:\n  ▸y: a", "missing key 'x'"),
    ("inner: {x: 1, ▸z: 1}", "unknown key 'z'"),
    ("match: ['a=~▸\"(\"']", "is no regular expression"),
    ("match: [a▸]", "no operator"),
    ("match: ['日=x ▸y']", "y after a matcher"),
    ('match: [▸"a=\\"b\\" c"]', "c after a matcher"),
    ("match:\n  - ▸|\n    a\n", "no operator"),
    ('match: [▸"a\\x3d~("]', "is no regular expression"),
    ("paired: ▸{}", "write either `a` or `b`"),
    ("paired:\n  ▸a: x\n  b: y\n", "write either `a` or `b`"),
]


@pytest.mark.parametrize(("marked", "message"), BROKEN)
def test_what_is_wrong_is_told_at_its_place(marked: str, message: str) -> None:
    before, after = marked.split("▸")
    _, report = read(before + after)
    [problem] = report.problems
    assert (problem.line, problem.column) == (
        before.count("\n") + 1,
        len(before) - before.rfind("\n"),
    )
    assert message in problem.message


def test_a_misspelt_key_is_one_problem_even_when_it_is_needed() -> None:
    report = Report("f.yml", "{xx: 1}")
    node = parse("{xx: 1}", report)
    assert node is not None
    assert Readers().of(Inner)(node, report) is BAD
    assert [found.message for found in report.problems] == ["unknown key 'xx'; did you mean 'x'?"]


def test_the_mark_is_as_wide_as_what_is_wrong() -> None:
    _, report = read("{txet: a, count: 'many'}")
    assert [found.length for found in report.problems] == [4, 6]


def test_everything_that_is_wrong_is_told() -> None:
    found, report = read("count: x\nflag: yes\nwords: [a, [], {}]\ninner: {y: []}\n")
    assert found is BAD
    assert [found.line for found in report.problems] == [1, 2, 3, 3, 4, 4]


def test_texts_can_be_read_by_a_rule_of_their_own() -> None:
    def shout(node: Any, report: Report) -> Any:
        return node.value.upper()

    report = Report("f.yml", "text: a\nany: {b: [c]}\nwords: [d]\n")
    node = parse("text: a\nany: {b: [c]}\nwords: [d]\n", report)
    assert node is not None
    found = Readers(shout).of(Fields)(node, report)
    assert (found.text, found.any, found.words) == ("A", {"b": ["C"]}, ("D",))


def test_a_type_that_yaml_cannot_give_is_the_plug_ins_fault() -> None:
    class Odd(msgspec.Struct):
        raw: bytes

    with pytest.raises(ConfigError, match="cannot be read from YAML"):
        Readers().of(Odd)
