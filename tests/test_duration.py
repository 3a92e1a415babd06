"""Durations: Prometheus' spelling in, seconds inside, the shortest spelling out."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.policy.duration import UNITS, Duration, format_duration, parse_duration

MILLISECONDS = st.integers(min_value=0, max_value=10**13)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5_400),
        ("1d", 86_400),
        ("1w", 604_800),
        ("1y", 31_536_000),
        ("1y2w3d4h5m6s7ms", 33_019_506.007),
        ("90s", 90),
        ("01m", 60),
    ],
)
def test_a_duration_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "s", "00", "-5m", "+5m", "1.5h", "5 m", " 5m", "5m ", "5m\n", "5M", "5min"),
        *("1m1h", "1m1m", "1ms1s", "٣m", "1234567890s"),
    ],
)
def test_a_refusal_quotes_the_text_and_gives_examples(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 30s, 5m or 1h30m") as refused:
        parse_duration(text)

    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.0006, "1ms"),
        (59.9996, "1m"),
        (90, "1m30s"),
        (5_400, "1h30m"),
        (86_400 * 14, "14d"),
        (31_536_000, "365d"),
    ],
)
def test_the_shortest_text(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(MILLISECONDS)
def test_round_trip(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)

    assert round(parse_duration(text) * 1000) == milliseconds


@given(st.lists(st.integers(0, 10**9 - 1), min_size=len(UNITS), max_size=len(UNITS)))
def test_every_text_with_its_units_in_order_is_read(amounts: list[int]) -> None:
    text = "".join(f"{amount}{unit}" for amount, unit in zip(amounts, UNITS, strict=True))

    assert parse_duration(text) == pytest.approx(
        sum(amount * size for amount, size in zip(amounts, UNITS.values(), strict=True))
    )


@given(MILLISECONDS, MILLISECONDS)
def test_order_survives(one: int, other: int) -> None:
    texts = [format_duration(each / 1000) for each in (one, other)]

    assert (one < other) == (parse_duration(texts[0]) < parse_duration(texts[1]))


def test_configuration_reads_it_by_its_parser_and_its_schema() -> None:
    found = msgspec.inspect.type_info(Duration)

    assert isinstance(found, msgspec.inspect.Metadata)
    assert found.extra == {"type": "duration", "parse": parse_duration}
    assert found.extra_json_schema is not None
    assert found.extra_json_schema["type"] == "string"
    for example in found.extra_json_schema["examples"]:
        assert format_duration(parse_duration(example)) == example
