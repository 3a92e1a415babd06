from __future__ import annotations

import random

from receiver.policy.strategy import MAX_TARGET, Strategies
from tests.factories import alert, parse_matcher, strategy


def test_the_strategies_of_an_alert_come_in_the_order_of_the_file() -> None:
    strategies = Strategies(
        [
            strategy(name="any", match=(parse_matcher('service!=""'),)),
            strategy(name="latency", match=(parse_matcher('alertname="HighLatency"'),)),
            strategy(name="cpu", match=(parse_matcher('alertname="HighCPU"'),)),
            strategy(name="regex", match=(parse_matcher('alertname=~"High.*"'),)),
            strategy(name="not", match=(parse_matcher('alertname!="HighCPU"'),)),
        ]
    )

    def selected(alertname: str) -> list[str]:
        one = alert(labels={"alertname": alertname, "service": "checkout"})
        return [each.name for each in strategies.select(one)]

    assert selected("HighLatency") == ["any", "latency", "regex", "not"]
    assert selected("HighCPU") == ["any", "cpu", "regex"]
    assert selected("Other") == ["any", "not"]


def test_selecting_by_name_first_finds_what_asking_every_strategy_finds() -> None:
    dice = random.Random(7)
    texts = [
        'alertname="A"',
        'alertname="B"',
        'alertname=""',
        'alertname=~"A|C"',
        'x!="1"',
        'x="1"',
    ]
    for _ in range(300):
        every = [
            strategy(
                name=str(number),
                match=tuple(parse_matcher(text) for text in dice.sample(texts, dice.randint(1, 2))),
                target=(),
            )
            for number in range(6)
        ]
        for name in ("A", "B", "C", ""):
            one = alert(labels={"alertname": name, "x": dice.choice("12")})
            asked = [each for each in every if each.matches(one)]
            assert Strategies(every).select(one) == asked


def test_a_target_is_named_by_the_labels_of_the_strategy() -> None:
    one = alert(labels={"service": "a", "zone": 'b",x="'})

    assert strategy(target=("service",)).target_of(one) == 'service="a"'
    assert strategy(target=("zone", "service")).target_of(one) == r'zone="b\",x=\"",service="a"'
    assert strategy(target=()).target_of(one) == f'fingerprint="{one.fingerprint}"'


def test_two_targets_never_share_a_name() -> None:
    two = strategy(target=("a", "b"))
    seen = {
        two.target_of(alert(labels={"a": a, "b": b}))
        for a in ("x", 'x",b="y', "x\\", "x\n")
        for b in ("y", '"', "\\")
    }

    assert len(seen) == 12


def test_a_target_that_cannot_be_named_is_not_healed() -> None:
    for labels in ({"other": "x"}, {"service": ""}, {"service": "x" * MAX_TARGET}):
        one = alert(labels={"alertname": "HighLatency", **labels})
        assert strategy().target_of(one) is None
        assert not strategy().matches(one)
