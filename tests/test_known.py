"""What a person may mean: the nearest to a name, and what is not known."""

from __future__ import annotations

import pytest

from receiver.errors import RefusedError
from receiver.healing.known import UNKNOWN, Known
from receiver.policy.scope import parse_scope
from receiver.policy.strategy import Strategies, Strategy
from tests.factories import Spy, parse_matcher, step, strategy

BY_SERVICE = strategy(
    name="by-service", actions=(step(params=Spy.Params(service="{{ labels.service }}")),)
)
BY_BOTH = strategy(name="by-both", target=("service", "instance"))
BY_HOST = strategy(name="by-host", target=("host",), match=(parse_matcher('host=~"db|mq"'),))
EACH = strategy(name="each", target=())
ALL = (BY_SERVICE, BY_BOTH, BY_HOST, EACH)


def known(*strategies: Strategy, targets: tuple[str, ...] = ()) -> Known:
    return Known(
        strategies=Strategies(strategies or ALL), services=("web", "mail", "db"), targets=targets
    )


def recognised(written: str, there: Known, *, even_if_unknown: bool = False) -> str:
    return there.recognise(parse_scope(written), even_if_unknown=even_if_unknown).text


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("all", "all"),
        ("strategy:each", "strategy:each"),
        ("target:web", 'target:service="web"'),
        ("target:mq", 'target:host="mq"'),
        ("target:service=web", 'target:service="web"'),
        ('target:service=~"w.*"', 'target:service=~"w.*"'),
        ('target:host!="db"', 'target:host!="db"'),
        ("target:old", 'target:service="old"'),
        ("target:0123", 'target:fingerprint="0123"'),
        ('target:instance="a:1",service="old"', 'target:service="old",instance="a:1"'),
    ],
)
def test_what_is_known_is_told_as_runs_show_it(written: str, meant: str) -> None:
    there = known(targets=('fingerprint="0123"', 'service="old",instance="a:1"', "no name"))

    assert recognised(written, there) == meant
    assert recognised(written, there, even_if_unknown=True) == meant


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("strategy:by-servce", "no strategy 'by-servce'; did you mean 'by-service'?"),
        ("target:wbe", "no target 'wbe' is known; did you mean service=\"web\"?"),
        ("target:zzzzzz", "no target 'zzzzzz' is known; known: service=\"old\", "),
        ("target:service=wbe", 'is known that is service="wbe"; did you mean service="web"?'),
        ("target:servce=web", "names its targets by 'servce'; did you mean 'service'?"),
        ('target:severity!="info"', "names its targets by 'severity'; known: fingerprint, host, "),
        (
            "target:host=web",
            'no strategy has targets that are host="web"; known: host="db", host="mq"',
        ),
        (
            "target:host=db,instance=a",
            'no strategy has targets that are host="db",instance="a"; did you mean host="db"?',
        ),
        ("target:service=web,instance=a:2", 'did you mean service="web"?'),
    ],
)
def test_what_is_not_known_is_refused_with_the_nearest(written: str, says: str) -> None:
    there = known(targets=('service="old",instance="a:1"',))
    with pytest.raises(RefusedError) as refused:
        recognised(written, there)

    assert (refused.value.status, refused.value.code) == (404, UNKNOWN)
    assert says in str(refused.value)


def test_what_is_not_known_may_be_meant_all_the_same() -> None:
    one = known(BY_SERVICE, BY_BOTH)

    assert recognised("target:new", one, even_if_unknown=True) == 'target:service="new"'
    assert recognised("target:no=x", one, even_if_unknown=True) == 'target:no="x"'
    assert recognised("strategy:new", one, even_if_unknown=True) == "strategy:new"


@pytest.mark.parametrize(
    ("there", "written", "even", "says"),
    [
        (known(), "target:new", True, 'write service="new", host="new" or fingerprint="new"'),
        (known(), "target:db", False, 'write service="db" or host="db"'),
        (known(BY_BOTH), "target:new", True, 'write service="new" or instance="new"'),
        (Known(strategies=Strategies(()), services=(), targets=()), "target:x", True, 'LABEL="x"'),
    ],
)
def test_a_value_of_several_labels_needs_its_label(
    there: Known, written: str, says: str, *, even: bool
) -> None:
    with pytest.raises(RefusedError, match="does not say of which label") as refused:
        recognised(written, there, even_if_unknown=even)

    assert says in str(refused.value)


def test_ten_thousand_hostile_targets_cost_no_second() -> None:
    targets = tuple(f'service="{"x" * 900}{number}"' for number in range(10_000))
    with pytest.raises(RefusedError, match="no target") as refused:
        recognised(f"target:{'x' * 1000}", known(targets=targets))

    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("all", ("by-service", "by-both", "by-host", "each")),
        ("strategy:each", ("each",)),
        ("target:service=web", ("by-service", "by-both")),
        ("target:host=web", ()),
        ('target:host=~"web|mq"', ("by-host",)),
        ('target:host=~"m.*"', ("by-host",)),
        ('target:instance!="a"', ("by-service", "by-both", "by-host", "each")),
        ("target:instance=", ("by-service", "by-host", "each")),
    ],
)
def test_which_strategies_may_have_such_a_target(written: str, names: tuple[str, ...]) -> None:
    assert known().strategies_of(parse_scope(written)) == names
