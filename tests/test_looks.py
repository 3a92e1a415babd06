from __future__ import annotations

import pytest

from receiver.guards.situation import Signal
from receiver.looks import next_look, outcome_of
from receiver.run import Outcome

CLEARED, FIRING, UNKNOWN = Signal.CLEARED, Signal.FIRING, Signal.UNKNOWN


@pytest.mark.parametrize(
    ("signal", "now", "outcome"),
    [
        (CLEARED, 10.0, Outcome.HEALED),
        (CLEARED, 99.0, Outcome.HEALED),
        (FIRING, 19.9, None),
        (FIRING, 20.0, Outcome.INEFFECTIVE),
        (UNKNOWN, 19.9, None),
        (UNKNOWN, 20.0, Outcome.INCONCLUSIVE),
    ],
)
def test_the_outcome(signal: Signal, now: float, outcome: Outcome | None) -> None:
    assert outcome_of(signal, now, deadline=20.0) is outcome


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
    assert next_look(now, 100.0, within) == at
