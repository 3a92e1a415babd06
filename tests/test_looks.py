from __future__ import annotations

from math import inf
from typing import Any

import pytest

from receiver.policy.looks import End, Look, ProofWait, cleared_since, end_of, next_look, wait_of
from receiver.policy.run import Doubt, Observation, Outcome, Plan
from receiver.policy.signal import Signal

CLEARED, FIRING, UNKNOWN = Signal.CLEARED, Signal.FIRING, Signal.UNKNOWN
START = 1_800_000_000.0  # 08:00:00 UTC
HEALED, INEFFECTIVE, INCONCLUSIVE = Outcome.HEALED, Outcome.INEFFECTIVE, Outcome.INCONCLUSIVE


def plan(**changes: Any) -> Plan:
    """The defaults of a strategy, about a rule that looks 5m back and is scraped each minute."""
    values: dict[str, Any] = {
        "steps": (),
        "rollback": True,
        "verify_within": 300.0,
        "verify_query": None,
        "verify_expect": "empty",
        "verify_settle": 30.0,
        "verify_at_most": 3600.0,
        "decay": 300.0,
        "scrape": 60.0,
        "alert_decay": 300.0,
        "alert": {},
    }
    return Plan(**{**values, **changes})


def end(
    signal: Signal, after: float, *, cleared: float | None = None, heals: bool = True, **more: Any
) -> End:
    look = {name: more.pop(name) for name in ("unasked", "lag") if name in more}
    about = plan(**more)
    seen = Look(at=START + after, signal=signal, detail="seen", **look)
    since = None if cleared is None else START + cleared
    return end_of(seen, about, wait_of(about, START), since, heals=heals)


@pytest.mark.parametrize(
    ("changes", "reach", "deadline"),
    [
        ({}, 360, 390),
        ({"decay": 0.0}, 60, 300),
        ({"decay": 0.0, "scrape": 15.0}, 15, 300),
        ({"decay": 900.0}, 960, 990),
        ({"decay": 900.0, "verify_settle": 300.0}, 960, 1260),
        ({"decay": 3600.0}, 3660, 3600),
        ({"decay": 7200.0}, 7260, 3600),
        ({"decay": 7200.0, "verify_at_most": 10_800.0}, 7260, 7290),
        ({"decay": 900.0, "verify_at_most": 60.0}, 960, 300),  # `within` is not cut short
        ({"decay": 900.0, "verify_within": 7200.0}, 960, 7200),
        ({"decay": None}, inf, 300),
        # a run that was begun by a promheal that did not know
        ({"decay": 0.0, "scrape": 0.0, "verify_settle": 0.0, "verify_at_most": 0.0}, 0, 300),
    ],
)  # fmt: skip
def test_how_long_a_proof_is_waited_for(
    changes: dict[str, Any], reach: float, deadline: float
) -> None:
    wait = wait_of(plan(**changes), START)
    assert (wait.reach - START, wait.deadline - START) == (reach, deadline)


@pytest.mark.parametrize(
    ("signal", "after", "outcome"),
    [
        (CLEARED, 1, HEALED),
        (CLEARED, 389, HEALED),
        (CLEARED, 4000, HEALED),
        (FIRING, 1, None),
        (FIRING, 389.9, None),
        (FIRING, 390, INEFFECTIVE),
        (UNKNOWN, 389.9, None),
        (UNKNOWN, 390, INCONCLUSIVE),
    ],
)
def test_the_outcome(signal: Signal, after: float, outcome: Outcome | None) -> None:
    assert end(signal, after, cleared=after if signal is CLEARED else None).outcome is outcome


@pytest.mark.parametrize(
    ("after", "changes", "detail"),
    [
        (1, {}, "seen; data from before the action counts until 08:06:00 UTC"),
        (359, {}, "seen; data from before the action counts until 08:06:00 UTC"),
        (360, {}, "seen"),
        (389, {"lag": 30.0}, "seen; data from before the action counts until 08:06:00 UTC"),
        (1, {"decay": 86_400.0, "verify_at_most": 90_000.0},
         "seen; data from before the action counts until 2027-01-16 08:01:00 UTC"),
        (3600, {"decay": 7200.0}, "this rule needs 2h1m to forget what was before the action; "),
        (300, {"decay": None, "decay_problem": "no PromQL"}, "not known: no PromQL; write a"),
    ],
)  # fmt: skip
def test_firing_says_nothing_while_old_data_counts(
    after: float, changes: dict[str, Any], detail: str
) -> None:
    found = end(FIRING, after, **changes)
    assert detail in found.seen
    assert detail in found.reason


def test_that_nothing_was_done_is_the_reason_and_not_what_was_seen() -> None:
    found = end(FIRING, 390, heals=False)
    assert (found.seen, found.reason) == ("seen", "its steps only watched and told: seen")


@pytest.mark.parametrize(
    ("signal", "changes", "outcome", "doubt"),
    [
        (FIRING, {}, INEFFECTIVE, None),
        (FIRING, {"decay": 7200.0}, INCONCLUSIVE, Doubt.OLD_DATA),
        (FIRING, {"decay": None}, INCONCLUSIVE, Doubt.OLD_DATA),
        (FIRING, {"lag": 3600.0}, INCONCLUSIVE, Doubt.OLD_DATA),
        (UNKNOWN, {}, INCONCLUSIVE, Doubt.UNKNOWN),
        (UNKNOWN, {"unasked": True}, INCONCLUSIVE, Doubt.UNASKED),
        (FIRING, {"heals": False}, INCONCLUSIVE, Doubt.NO_HEAL),
        (UNKNOWN, {"heals": False}, INCONCLUSIVE, Doubt.NO_HEAL),
        (UNKNOWN, {"heals": False, "unasked": True}, INCONCLUSIVE, Doubt.NO_HEAL),
        (CLEARED, {"heals": False, "cleared": 3600.0}, HEALED, None),
    ],
)
def test_why_it_is_inconclusive(
    signal: Signal, changes: dict[str, Any], outcome: Outcome, doubt: Doubt | None
) -> None:
    found = end(signal, 3600, **changes)
    assert (found.outcome, found.doubt) == (outcome, doubt)


@pytest.mark.parametrize(
    ("after", "cleared", "outcome"),
    [(10, 10, None), (69, 10, None), (70, 10, HEALED), (400, 350, None), (410, 350, HEALED)],
)
def test_it_must_hold(after: float, cleared: float, outcome: Outcome | None) -> None:
    assert end(CLEARED, after, cleared=cleared, verify_hold=60.0).outcome is outcome


def looks(*verdicts: Signal) -> list[Observation]:
    return [
        Observation(at=float(n), verdict=v, value=None, detail="") for n, v in enumerate(verdicts)
    ]


@pytest.mark.parametrize(
    ("verdicts", "since"),
    [
        ([], None),
        ([CLEARED], 0.0),
        ([FIRING, CLEARED, CLEARED], 1.0),
        ([CLEARED, UNKNOWN, CLEARED], 2.0),
        ([CLEARED, FIRING], None),
    ],
)
def test_since_when_every_look_finds_it_cleared(
    verdicts: list[Signal], since: float | None
) -> None:
    assert cleared_since(looks(*verdicts)) == since


@pytest.mark.parametrize(
    ("signal", "changes", "forgets"),
    [
        (CLEARED, {"cleared": 3600.0}, None),
        (CLEARED, {"cleared": 3600.0, "verify_query": "up == 0", "alert_decay": 7200.0}, 7260),
        (CLEARED, {"cleared": 3600.0, "verify_query": "up == 0", "alert_decay": None}, None),
        (FIRING, {}, None),
        (FIRING, {"decay": 7200.0, "alert_decay": 7200.0}, 7260),
        (UNKNOWN, {}, 360),
        (UNKNOWN, {"heals": False}, None),
    ],
)
def test_until_when_the_alert_itself_says_nothing(
    signal: Signal, changes: dict[str, Any], forgets: float | None
) -> None:
    found = end(signal, 3600, **changes).forgets_at
    assert found == (None if forgets is None else START + forgets)


@pytest.mark.parametrize(
    ("now", "within", "at"),
    [
        (100.0, 300.0, 115.0),
        (100.0, 100.0, 105.0),
        (100.0, 5.0, 101.0),
        (100.0, 3600.0, 115.0),
        (395.0, 300.0, 400.0),
        (104.5, 5.0, 105.0),
        (400.0, 300.0, 400.0),
    ],
)
def test_the_next_look(now: float, within: float, at: float) -> None:
    wait = ProofWait(start=100.0, reach=100.0, deadline=100.0 + within, hold=0.0)
    assert next_look(now, wait, None) == at


@pytest.mark.parametrize(("now", "at"), [(350.0, 353.0), (409.0, 410.0), (405.0, 408.0)])
def test_while_it_must_hold_it_is_looked_at_until_then(now: float, at: float) -> None:
    wait = ProofWait(start=100.0, reach=100.0, deadline=400.0, hold=60.0)
    assert next_look(now, wait, 350.0) == at
