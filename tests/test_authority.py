from __future__ import annotations

import pytest

from receiver.policy.authority import Authority, Speaker, authority, rule_of
from receiver.policy.promql import Rule

ALERT = {"alertname": "HighCPU", "service": "a", "severity": "critical", "cluster": "west"}
MINE = {"alertname": "HighCPU", "service": "a", "severity": "critical"}


def rule(query: str = "cpu > 1", name: str = "HighCPU", **labels: str) -> Rule:
    return Rule(name=name, query=query, labels=labels)


def listing(query: str, *active: dict[str, str], **labels: str) -> Rule:
    return Rule(name="HighCPU", query=query, labels=labels, alerts=active)


@pytest.mark.parametrize(
    ("rules", "said", "found"),
    [
        ([rule(name="Other")], None, None),
        ([rule()], None, 0),
        ([rule(severity="warning")], None, None),
        ([rule(), rule(severity="critical"), rule(severity="warning")], None, 1),
        ([rule(severity="{{ $labels.x }}", team="{{ $value }}")], None, 0),
        # A rule that sets a label to nothing takes it away.
        ([rule(instance="")], None, 0),
        ([rule(service="")], None, None),
        ([rule(query="cpu > 2"), rule()], "cpu > 1", 1),
        ([rule(query="cpu  >\n1 # high")], "cpu > 1", 0),
        ([rule(), rule()], "cpu > 1", 0),
        # The sender only tells apart what Prometheus does not.
        ([rule(query="cpu > 2")], "vector(1)", 0),
        ([rule(query="cpu > 0.5"), rule(severity="critical")], "cpu > 0.5", 1),
        ([rule(), listing("cpu > 2", MINE)], "cpu > 1", 1),
        ([rule(severity="critical"), listing("cpu > 2", MINE)], "cpu > 1", 1),
        ([rule(), listing("cpu > 2", MINE | {"service": "b"})], "cpu > 1", 0),
    ],
)
def test_finds_the_rule_of_an_alert(rules: list[Rule], said: str | None, found: int | None) -> None:
    assert rule_of(rules, ALERT, said) is (None if found is None else rules[found])


KNOWN, OTHER = [rule()], [rule(name="Other")]


@pytest.mark.parametrize("speaker", Speaker)
@pytest.mark.parametrize(
    "rules", [KNOWN, OTHER, [], None], ids=["known", "other", "none", "no API"]
)
@pytest.mark.parametrize("said", ["vector(1)", None])
def test_whose_expression_is_asked(
    speaker: Speaker, rules: list[Rule] | None, said: str | None
) -> None:
    found = authority(rules, ALERT, said, speaker)

    known = KNOWN[0] if rules is KNOWN else None
    assert found.rule is known
    if known:
        assert found == Authority(expression="cpu > 1", rule=known)
    elif said is not None and speaker in {Speaker.TRUSTED, Speaker.FILE}:
        assert found == Authority(expression=said)
    else:
        assert found.expression is None
        assert found.vouched is (speaker is Speaker.FILE)


@pytest.mark.parametrize(
    ("rules", "said", "why"),
    [
        (None, None, "Prometheus has no rules API"),
        ([], None, "Prometheus has no rule called 'HighCPU'"),
        ([rule(severity="page")], None, "as severity='page' where the alert has 'critical'"),
        ([], None, "give the strategy a `when` or a `verify.query`"),
        ([], "up", "or name who sends it in prometheus.trusted_senders"),
    ],
)  # fmt: skip
def test_says_why_nothing_may_be_asked_and_what_to_do(
    rules: list[Rule] | None, said: str | None, why: str
) -> None:
    assert why in authority(rules, ALERT, said).why


def test_the_remedy_is_one_that_helps() -> None:
    """Where the link carries nothing, trust in its sender changes nothing."""
    assert "trusted_senders" not in authority([], ALERT, None).why
