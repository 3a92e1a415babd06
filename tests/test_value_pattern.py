"""What a pattern promises, decided for the pattern and found again in what RE2 matches."""

from __future__ import annotations

import ast
import re
import string
import time
from contextlib import suppress

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.policy.value_grammar import PatternError
from receiver.policy.value_pattern import (
    DEFAULT,
    LISTED,
    MAX_VALUE,
    ValuePattern,
    parse_pattern,
)
from receiver.policy.value_promise import fault_of
from tests.hostile import CORPUS

GOOD = [
    (DEFAULT, ["checkout", "web-1.example_x", "0"], ["", "-x", ".x", "a/b", "a b", "a" * 64]),
    (LISTED, ["one", "another"], ["on", "onea", "one|another", ""]),
    ("[a-z0-9][a-z0-9-]{0,39}", ["a", "a-", "9-9"], ["-a", "A", "a" * 41]),
    (r"[0-9]{1,12}(?:\.[0-9]{1,6})?", ["1", "10.5"], ["-1", "1.", "1e5"]),
    (r"/[a-z]+(?:/[a-z]+)*", ["/var/lib"], ["/", "/var/", "/var/../etc", "var"]),
    (r"\w+@\d{1,3}\.service", ["worker@12.service"], ["worker@.service", "@1.service"]),
    (r"[a-z](?:[a-z.]*[a-z])?", ["a..b", "a"], ["..", "a.", ".a"]),
    (r"a\-b\+c\:d", ["a-b+c:d"], ["a\\-b+c:d"]),
    ("(a|b)(c|d)?", ["ac", "b"], ["c", "ab", "acd"]),
    ("[a-z]{2}", ["ab"], ["a", "abc"]),
    ("[a-z]{2,}", ["ab", "abc"], ["a"]),
    ("[_a-c]?x[b-]?", ["x", "ax", "_x", "x-"], ["-x"]),
]
BAD = [
    ("[a-z0-9-]{1,40}", "lets '-' through, and a value may not begin with '-'"),
    ("", "lets '' through, and a value may not be empty"),
    ("[a-z]*", "may not be empty"),
    ("a|b|", "may not be empty"),
    ("(?:)", "may not be empty"),
    ("a|-rf", "'-rf'"),
    ("[a-z=]+", "may not hold '='"),
    ("=?[a-z]+", "may not hold '='"),
    ("[a-z$]+", "may not hold '$'"),
    (r"\$x", "may not hold '$'"),
    ("[a-z;]+", "may not hold ';'"),
    ("[!-~]+", "through"),
    ("[,-9]+", "may not begin with"),
    (r"[a-z/.]+", "may not begin with '.'"),
    (r"[a-z][a-z/.]+", "'a/.' through, and a value may not lead out"),
    (r"/\.\.", "may not lead out"),
    (r"a/\.\./b", "may not lead out"),
    (r"a/\./b", "may not lead out"),
    (r"[@a]b", "may not begin with '@'"),
    (r"\+x", "may not begin with '+'"),
    ("a b", "white space"),
    ("a\tb", "white space"),
    ("[a\n]", "white space"),
    ("a\x00", "may not hold '\\x00'"),
    ("a\x1b", "may not hold"),
    ("é", "may not hold 'é'"),
    ("[à-ü]+", "may not hold 'à'"),
    (".*", "`.` lets everything through"),
    ("[^-=$]+", "[^…] lets everything else through"),
    (r"\s", r"\s may not be used"),
    (r"\S+", r"\S may not be used"),
    (r"\pL+", r"\p may not be used"),
    (r"\x2d", r"\x may not be used"),
    (r"\Qa\E", r"\Q may not be used"),
    (r"a\b", r"\b may not be used"),
    (r"a\z", r"\z may not be used"),
    ("a\\", "\\ may not be used"),
    ("[[:alpha:]]+", "[:…:] may not be used"),
    ("(?i)k", "only (?:…)"),
    ("(?P<x>a)", "only (?:…)"),
    ("(?s:a)", "only (?:…)"),
    ("^[a-z]+$", "leave out the ^"),
    ("[a-z]+$", "leave out the $"),
    ("a**", "one quantifier may not follow another"),
    ("a+?", "one quantifier may not follow another"),
    ("a{1,2}{3}", "one quantifier may not follow another"),
    ("*", "has nothing before it"),
    ("a{", "has nothing before it"),
    ("a{,3}", "has nothing before it"),
    ("a]", "has nothing before it"),
    ("a{3,2}", "counts wrongly"),
    ("a{1,1001}", "beyond 1000"),
    ("(a", "a `)` is missing"),
    ("a)", "closes nothing"),
    ("[a", "a `]` is missing"),
    ("[]a]", "[] lets nothing through"),
    ("[z-a]", "a range runs"),
    (r"[\d-z]", "write a - at the end"),
    ("[a-c-e]", "write a - at the end"),
    ("(" * 60 + "a" + ")" * 60, "nested too deeply"),
    ("(?:[a-z]{1,100}){1,100}", "is no regular expression: invalid repetition"),
    ("a" * 1_001, "at most 1000"),
]


@pytest.mark.parametrize(("text", "matched", "others"), GOOD)
def test_a_pattern_matches_a_whole_value(text: str, matched: list[str], others: list[str]) -> None:
    pattern = ValuePattern(text)
    assert [value for value in matched if not pattern.matches(value)] == []
    assert [value for value in others if pattern.matches(value)] == []
    for value in matched:
        assert not pattern.matches(f"{value}\n")
        assert not pattern.matches(f" {value}")


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_what_it_refuses_and_why(text: str, problem: str) -> None:
    with pytest.raises(PatternError) as refused:
        ValuePattern(text)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("[a-z0-9-]{1,40}", "[a-z0-9][a-z0-9-]{0,39}"),
        ("[a-z-]+", "[a-z][a-z-]*"),
        ("[a-zA-Z0-9._-]*", "[a-zA-Z0-9_][a-zA-Z0-9._-]*"),
        ("[a-z0-9-]", DEFAULT),
        ("[=$]+", DEFAULT),
        ("x|-y", DEFAULT),
    ],
)
def test_what_it_proposes_instead_is_taken(text: str, instead: str) -> None:
    with pytest.raises(PatternError) as refused:
        ValuePattern(text)
    assert str(refused.value).endswith(f"write for example {instead!r}")
    ValuePattern(instead)


def test_only_what_is_nothing_but_a_list_is_one() -> None:
    assert ValuePattern("checkout|cart").listed == {"checkout", "cart"}
    assert ValuePattern(r"(?:web|db)-(1|2)\.example").listed == {
        "web-1.example", "web-2.example", "db-1.example", "db-2.example",
    }  # fmt: skip
    assert ValuePattern("[a]").listed == {"a"}
    for text in (DEFAULT, "[ab]", "a{1,2}", "a?b", "ab+"):
        assert not ValuePattern(text).listed


def test_no_hostile_value_gets_through_any_of_them() -> None:
    everything = [ValuePattern(text) for text, _, _ in GOOD]
    everything.append(ValuePattern(r"[\w/][\w:@+,-]*"))
    let_through = {value for value in CORPUS for each in everything if each.matches(value)}
    assert all(not fault_of(value) for value in let_through)
    assert all(set(value) <= set(string.ascii_letters + string.digits + "_/.:@+,-")
               for value in let_through)  # fmt: skip


def test_a_value_is_bounded() -> None:
    assert ValuePattern("[a-z]+").matches("a" * MAX_VALUE)
    assert not ValuePattern("[a-z]+").matches("a" * (MAX_VALUE + 1))


@pytest.mark.parametrize(
    "text", ["[a-z]{1,1000}", "(?:a?){1000}a", "(?:(?:a|b){1,30}){1,30}", "(((a{9}){9}){9}){9}"]
)
def test_no_pattern_keeps_the_reader_busy(text: str) -> None:
    began = time.process_time()
    with suppress(PatternError):
        ValuePattern(text)
    assert time.process_time() - began < 2.0


# ── the analysis, by properties ──

_SIGNS = "abz09_/.:@+,-=$ \n;"
_escaped = st.sampled_from([f"\\{sign}" for sign in "./:@+,-=$;"] + [r"\d", r"\w"])
_class_parts = st.lists(
    st.sampled_from(["a-z", "0-9", "A-Z", "a", "_", "/", ".", ":", "@", "+", ",", "=", "$", ";",
                     r"\d", r"\w", r"\-", "+-/", " -~", ",-9"]),
    min_size=1, max_size=4,
)  # fmt: skip
_classes = st.builds(
    lambda parts, minus: f"[{''.join(parts)}{minus}]", _class_parts, st.sampled_from(["", "-"])
)
_atoms = st.one_of(st.sampled_from("abz09_/:@,-="), _escaped, _classes)
PATTERNS = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.builds(
            lambda part, times: f"({part}){times}",
            inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{1,}"]),
        ),
    ),
    max_leaves=8,
)  # fmt: skip
"""Patterns of the grammar that is read, most of which let through what they must not."""
# Of signs that are safe, so that enough of them are accepted.
_tame = st.recursive(
    st.sampled_from(["a", "b", "[a-z]", "[a-z0-9]", r"\d", r"\w", "[a-z0-9-]", r"[a-z.]", "[a-z/]",
                     r"\.", "-", "/", "[:@+,]"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.builds(lambda part, times: f"({part}){times}", inner,
                  st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{1,}"])),
    ),
    max_leaves=6,
).map(lambda rest: f"[a-z]{rest}")  # fmt: skip
VALUES = st.text(alphabet=_SIGNS, max_size=12)


def accepted(text: str) -> ValuePattern | None:
    try:
        return parse_pattern(text)
    except PatternError:
        return None


@settings(max_examples=400, deadline=None)
@given(st.one_of(PATTERNS, _tame), st.data())
def test_nothing_that_an_accepted_pattern_matches_breaks_the_promise(
    text: str, data: st.DataObject
) -> None:
    """The matching is RE2's alone, so that only the analysis of the pattern is asked."""
    if accepted(text) is None:
        return
    value = data.draw(st.from_regex(re.compile(text, re.ASCII), fullmatch=True))
    assert re2.compile(f"^(?:{text})$").search(value.encode()) is not None
    assert value
    assert value[0] not in "-=$.:@+,"
    assert not set(value) & set("=$ ;\n\t\0")
    assert value.isascii()
    assert value.isprintable()
    assert not {".", ".."} & set(value.split("/"))


@settings(max_examples=400, deadline=None)
@given(st.one_of(PATTERNS, _tame), VALUES)
def test_no_value_slips_through_an_accepted_pattern(text: str, value: str) -> None:
    if accepted(text) is not None and re2.compile(f"^(?:{text})$").search(value.encode()):
        assert fault_of(value) == ""


@settings(max_examples=400, deadline=None)
@given(PATTERNS)
def test_a_pattern_is_refused_for_a_value_that_it_really_lets_through(text: str) -> None:
    """So none is refused for nothing, of those that can be read."""
    try:
        parse_pattern(text)
    except PatternError as error:
        _, lets, rest = str(error).partition(" lets ")
        if not lets:
            return
        shown = rest.partition(" through, ")[0]
        if "…" in shown:
            return
        witness = ast.literal_eval(shown)
        assert re2.compile(f"^(?:{text})$").search(witness.encode()) is not None
        assert fault_of(witness)


@pytest.mark.parametrize("character", [chr(code) for code in range(128)])
def test_every_character_is_judged_at_the_beginning_and_later(character: str) -> None:
    word = set(string.ascii_letters + string.digits + "_")
    assert (fault_of(f"{character}a") == "") is (character in word | {"/"})
    assert (fault_of(f"a{character}") == "") is (character in word | set("/.:@+,-"))
