"""What a person writes for a target, and what that means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.policy.matcher import Matcher, MatchOp
from receiver.policy.scope import (
    MAX_SCOPE,
    ScopeError,
    of_target,
    parse_scope,
    parse_target,
    stored_scope,
)
from receiver.policy.target import labels_of, name_of

LABELS = st.dictionaries(st.sampled_from(["service", "instance", "é.b"]), st.text(), min_size=1)


@given(LABELS)
def test_a_target_is_read_back_from_its_name(labels: dict[str, str]) -> None:
    assert labels_of(name_of(labels)) == labels
    assert parse_target(name_of(labels)).matchers == of_target(labels).matchers


@given(
    st.lists(st.builds(Matcher, st.sampled_from(["a", "b c"]), st.sampled_from(list(MatchOp)[:2]),
                       st.text()), min_size=1, max_size=3),
)  # fmt: skip
def test_what_is_stored_means_what_was_written(matchers: list[Matcher]) -> None:
    try:
        scope = parse_target(",".join(map(str, matchers)))
    except ScopeError:
        return
    assert stored_scope(scope.text) == scope


@pytest.mark.parametrize(
    "text",
    ["", "web", 'service="a"b', 'service="a",', 'a="1",a="2"', 'a="\\x"', 'a="\\ud800"', "a=1"],
)  # fmt: skip
def test_what_names_no_target_has_no_labels(text: str) -> None:
    assert labels_of(text) is None


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("web", "web"),
        (" 10.0.0.1:80 ", "10.0.0.1:80"),
        ("service=web", 'service="web"'),
        ("service='web'", "service=\"'web'\""),
        ("service=", 'service=""'),
        ("service=web,instance=a:1", 'service="web",instance="a:1"'),
        ('{service="web"}', 'service="web"'),
        ("service=~web.*", 'service=~"web.*"'),
        ('service="web",instance=~"a.*"', 'service="web",instance=~"a.*"'),
        ('service="a\\u0000\\tb"', 'service="a\\u0000\\tb"'),
        ('service="a",service="b"', 'service="a",service="b"'),
    ],
)
def test_there_is_one_spelling_for_all_that_mean_the_same(written: str, canonical: str) -> None:
    scope = parse_target(written)

    assert scope.text == f"target:{canonical}"
    assert parse_scope(scope.text) == scope


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("target:", "write web, or service="),
        ("target: ", "write web, or service="),
        ("target:{,}=", "write web, or service="),
        ("target:we\x1bb", "write web, or service="),
        ('target:service="web', "the double quote is never closed"),
        ('target:service=~"("', "is no regular expression"),
        ('target:service=~"a\x1b.*"', "cannot be printed"),
        ("target:" + "x" * MAX_SCOPE, f"in up to {MAX_SCOPE} characters"),
        ("target:service=\ud800", "write the text in UTF-8"),
        ("everything", "write all, strategy:NAME or target:NAME"),
        ("strategy:", "write all, strategy:NAME or target:NAME"),
        ("strategy:\x00", "write all, strategy:NAME or target:NAME"),
    ],
)
def test_what_says_nowhere_is_refused_with_what_to_write(written: str, says: str) -> None:
    with pytest.raises(ScopeError, match="write") as refused:
        parse_scope(written)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("scope", "covered", "others"),
    [
        ("all", ['service="a"'], []),
        ("strategy:s", ['service="a"'], []),
        ("strategy:other", [], ['service="a"']),
        (
            'target:service="a"',
            ['service="a"', 'service="a",zone="b"'],
            ['zone="a"', 'service="b"'],
        ),
        ("target:a", ['service="a"', 'zone="a"'], ['service="a",zone="a"', 'service="b"']),
        ('target:zone!="b"', ['service="a"', 'zone="a"'], ['zone="b"']),
        ('target:service="a",zone=""', ['service="a"'], ['service="a",zone="b"']),
        ("target:}{", ["}{"], ['service="a"']),
    ],
)
def test_what_a_stored_scope_covers(scope: str, covered: list[str], others: list[str]) -> None:
    assert [one for one in covered + others if stored_scope(scope).covers("s", one)] == covered


@pytest.mark.parametrize(
    ("said", "paused", "same"),
    [
        ("all", "all", True),
        ("all", "target:web", False),
        ("strategy:a", "strategy:b", False),
        ("target:web", 'target:service="web"', True),
        ("target:web", "target:web", True),
        ("target:web", 'target:service=~"web"', False),
        ("target:web", 'target:service="web",zone="b"', False),
        ("target:zone=b,service=web", 'target:service="web",zone="b"', True),
        ("target:service=web", "target:service=web", True),
        ("target:service=web", "all", False),
    ],
)
def test_a_pause_is_known_again_in_other_words(said: str, paused: str, *, same: bool) -> None:
    assert parse_scope(said).means(stored_scope(paused)) is same
