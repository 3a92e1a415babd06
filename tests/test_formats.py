"""One value of a settings file, and not one character more."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import tomlkit
import yaml
from hypothesis import given
from hypothesis import strategies as st

from receiver.services.formats import ABSENT, changed, edit, format_named, look_up

TEXTS = {
    "yaml": """\
# The shop's settings; ask Mara before you change the limit.
name: shop   # as in DNS
hosts:
- a   # not indented: this is how we write lists
- b
rate_limit: 100  # requests a second
"quoted": 'it''s'
cache:
  # off since May
  enabled: no
  size: 1_000

llm: {provider: openai, model: "x: y"}
text: |
  rate_limit: 5
""",
    "json": """\
{
    "name": "sh\\u006fp",
    "rate_limit": 1e2,
    "cache": {"enabled": false, "size": 10.50},
    "llm": {"provider": "openai"},
    "hosts": [ "a","b" ]
}
""",
    "toml": """\
# The shop's settings.
name = 'shop'
rate_limit = 100  # requests a second

[cache]
enabled = false   # off since May

[llm]
provider = "openai"
""",
    "env": """\
# The shop's settings.
NAME='the shop'
RATE_LIMIT=100
export CACHE_ENABLED=false

LLM_PROVIDER="openai"
""",
}
PATHS = {
    "rate_limit": ("rate_limit",),
    "cache": ("cache", "enabled"),
    "llm": ("llm", "provider"),
}
ENV = {"rate_limit": ("RATE_LIMIT",), "cache": ("CACHE_ENABLED",), "llm": ("LLM_PROVIDER",)}
FORMATS = pytest.mark.parametrize("name", TEXTS)


def path(name: str, setting: str) -> tuple[str, ...]:
    return ENV[setting] if name == "env" else PATHS[setting]


@FORMATS
@pytest.mark.parametrize(
    ("setting", "value", "line"),
    [("rate_limit", 50, "100"), ("cache", True, "false"), ("llm", "anthropic", "openai")],
)
def test_only_the_line_of_the_value_changes(name: str, setting: str, value: Any, line: str) -> None:
    text = TEXTS[name]
    form = format_named(name)
    after = edit(form, text, path(name, setting), value)
    assert look_up(form.parse(after), path(name, setting)) == value
    pairs = zip(text.splitlines(), after.splitlines(), strict=True)
    different = [(was, now) for was, now in pairs if was != now]
    assert len(different) == 1
    was, now = different[0]
    assert was.partition("#")[2] == now.partition("#")[2], "the comment is kept"


@FORMATS
@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_it_can_be_taken_back_to_the_same_text(name: str, ending: str) -> None:
    text = TEXTS[name]
    text = text.rstrip("\n") if not ending else text.replace("\n", ending)
    form = format_named(name)
    for setting, before, after in (("cache", False, True), ("llm", "openai", "local")):
        where = path(name, setting)
        there = edit(form, text, where, after)
        assert there != text
        back = edit(form, there, where, before)
        # `no` and `"openai"` are other ways to write the same.
        assert form.parse(back) == form.parse(text)
        assert edit(form, there, where, after) == there
        assert ("\r\n" in there) == (ending == "\r\n")


@FORMATS
def test_a_key_that_is_missing_is_added_and_taken_away_again(name: str) -> None:
    form = format_named(name)
    where = ("BURST",) if name == "env" else ("cache", "burst")
    text = TEXTS[name]
    there = edit(form, text, where, 7)
    assert look_up(form.parse(there), where) == 7
    assert edit(form, there, where, ABSENT) == text


@pytest.mark.parametrize("name", ["yaml", "json", "toml"])
@pytest.mark.parametrize(
    "start", ["", "{}", "{ }", "a: 1\n", '{"a": 1}', "a = 1\n", "[t]\nb = 1\n"]
)
def test_what_leads_to_it_is_made(name: str, start: str) -> None:
    form = format_named(name)
    try:
        before = form.parse(start)
    except ValueError:
        return  # of another format
    after = edit(form, start, ("x", "y"), True)
    assert form.parse(after) == {**before, "x": {"y": True}}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("yaml", "a: 1\na: 2\n", "line 2 column 1: the key 'a' is there twice"),
        ("yaml", "a: [1\n", "line 2 column 1"),
        ("yaml", "- a\n", "not a mapping"),
        ("yaml", "a: 1\n---\nb: 2\n", "line 2"),
        ("yaml", "a: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
        ("yaml", "rate_limit: &x 1\nb: *x\n", "undefined alias"),
        ("json", '{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ("json", '{"a": NaN}', "NaN is no JSON"),
        ("json", "[1]", "not an object"),
        ("json", '{"a": }', "line 1 column 7"),
        ("toml", "a = 1\na = 2\n", "line 2"),
        ("env", "what is this\n", "line 1: neither a comment nor NAME=VALUE"),
        ("env", "A=1\nA=2\n", "line 2: A is set twice"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(name: str, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        edit(format_named(name), text, ("rate_limit",) if name != "env" else ("R",), 5)


@pytest.mark.parametrize("value", ["a b", "$(id)", "a\nB=1", "it's", '"', "a#b", "é"])
def test_a_variable_takes_only_what_all_read_alike(value: str) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        edit(format_named("env"), "", ("A",), value)


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda f: round(f, 3)),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=30),
)
WORDS = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=6)
DOCUMENTS = st.dictionaries(
    WORDS,
    st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(WORDS, SCALARS, max_size=3)),
    max_size=5,
)
DUMPS: dict[str, Callable[[Any], str]] = {
    "yaml": lambda d: yaml.safe_dump(d, allow_unicode=True, sort_keys=False),
    "yaml flow": lambda d: yaml.safe_dump(d, default_flow_style=True),
    "json": lambda d: json.dumps(d, indent=2),
    "json flat": json.dumps,
    "toml": tomlkit.dumps,
}


@pytest.mark.parametrize("how", DUMPS)
@given(document=DOCUMENTS, key=WORDS, inner=st.none() | WORDS, value=SCALARS)
def test_whatever_the_file_says_only_the_one_key_is_different(
    how: str, document: dict[str, Any], key: str, inner: str | None, value: Any
) -> None:
    text = DUMPS[how](document)
    form = format_named(how.split(maxsplit=1)[0])
    where = (key,) if inner is None else (key, inner)
    try:
        now = look_up(form.parse(text), where)
        after = edit(form, text, where, value)
    except ValueError:
        return  # refused, which is always allowed; edit() has seen that nothing else changed
    assert form.parse(after) == changed(form.parse(text), where, value)
    assert form.parse(edit(form, after, where, ABSENT if now is ABSENT else now)) in (
        form.parse(text),
        changed(form.parse(text), where[:1], {}),
    )


@given(value=st.text(max_size=40))
def test_a_hostile_text_is_one_value_or_refused(value: str) -> None:
    for name, text in TEXTS.items():
        form, where = format_named(name), path(name, "llm")
        try:
            after = edit(form, text, where, value)
        except ValueError:
            continue
        assert look_up(form.parse(after), where) == value
        assert form.parse(after) == changed(form.parse(text), where, value)


def test_toml_is_read_by_another_than_who_writes_it() -> None:
    assert format_named("toml").parse is not tomlkit.parse
    assert format_named("toml").parse("a = 1") == tomllib.loads("a = 1")
