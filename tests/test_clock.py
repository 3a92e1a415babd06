from __future__ import annotations

import time

import pytest

from receiver import clock
from receiver.clock import anchored_clock, boot, lead_of_wall, steady_clock, uptime


def test_it_begins_at_the_wall_clock_and_goes_on() -> None:
    steady = steady_clock()

    assert steady() == pytest.approx(time.time(), abs=0.05)
    before = steady()
    time.sleep(0.02)
    assert 0.02 <= steady() - before < 1.0


def test_a_wall_clock_that_was_set_back_does_not_take_it_back() -> None:
    ahead = time.time() + 86_400

    assert steady_clock(not_before=ahead)() == pytest.approx(ahead, abs=0.05)


def test_an_anchored_clock_shows_what_has_passed_since() -> None:
    found = anchored_clock(uptime() - 100.0, 1_800_000_000.0)

    assert found() == pytest.approx(1_800_000_100.0, abs=0.05)


@pytest.mark.parametrize("step", [3600.0, -3600.0, 86_400.0, -86_400.0])
def test_a_step_of_the_wall_clock_shows_as_its_lead_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    steady = steady_clock()
    before = steady()
    real = time.time
    monkeypatch.setattr(clock, "wall", lambda: real() + step)

    assert lead_of_wall(steady) == pytest.approx(step, abs=0.05)
    assert steady() - before < 1.0


def test_a_boot_is_the_same_until_the_next_one() -> None:
    assert len(boot()) == 36
    assert boot() == boot()
