from __future__ import annotations

import pytest

from receiver.policy.dormancy import AWAKE, Dormancy, anew, backoff, failed, lulled

NOW = 1_800_000_000.0


TARGETS = tuple(f's="{number}"' for number in range(10))


def test_so_many_targets_that_fail_in_a_row_are_enough() -> None:
    dormancy = AWAKE
    for number, target in enumerate(TARGETS[:9]):
        dormancy = failed(dormancy, target, NOW + number, dormant_after=10)
        assert dormancy == Dormancy(
            failures=number + 1, failing=TARGETS[: number + 1], failed_at=NOW + number
        )

    dormancy = failed(dormancy, TARGETS[9], NOW + 9, dormant_after=10)

    assert dormancy == Dormancy(
        failures=10,
        failing=TARGETS,
        failed_at=NOW + 9,
        since=NOW + 9,
        reason="Exceeded maximum consecutive failures (10)",
    )


def test_a_target_that_fails_again_and_again_is_one() -> None:
    dormancy = failed(AWAKE, "a", NOW, dormant_after=2)
    for number in range(20):
        dormancy = failed(dormancy, "a", NOW + number, dormant_after=2)

    assert dormancy == Dormancy(failures=1, failing=("a",), failed_at=NOW + 19)
    assert failed(dormancy, "b", NOW + 20, dormant_after=2).since == NOW + 20


def test_what_was_counted_without_its_target_stays_counted() -> None:
    dormancy = failed(Dormancy(failures=3, failed_at=NOW), "a", NOW + 1, dormant_after=10)

    assert dormancy == Dormancy(failures=4, failing=("a",), failed_at=NOW + 1)


def test_a_heal_ends_the_row() -> None:
    assert anew(Dormancy(failures=1, failing=("a",), failed_at=NOW)) == AWAKE


def test_dormant_it_stays_as_it_is_whatever_ends() -> None:
    dormant = Dormancy(failures=10, failed_at=NOW, since=NOW, reason="first")

    assert anew(dormant) == dormant
    assert failed(dormant, "b", NOW + 1, dormant_after=10) == dormant
    assert lulled(dormant, "second", NOW + 1) == dormant


def test_it_can_be_lulled_for_another_reason() -> None:
    found = lulled(Dormancy(failures=2, failed_at=NOW), "the breaker", NOW + 1)

    assert found == Dormancy(failures=2, failed_at=NOW, since=NOW + 1, reason="the breaker")


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 5), (1, 5), (2, 10), (3, 20), (6, 160), (7, 320), (8, 320), (10**6, 320)],
)
def test_each_further_failure_costs_twice_as_long(failures: int, seconds: float) -> None:
    assert backoff(failures, first=5.0, most=320.0) == seconds


def test_however_many_failures_there_were_it_stays_a_number() -> None:
    assert backoff(10**6, first=1.0, most=1e300) == 2.0**64
