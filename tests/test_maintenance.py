"""Windows of maintenance, held to a model that knows every minute around a change of clocks."""

from __future__ import annotations

import re
import sys
import time
import zoneinfo
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from receiver.policy.calendar import DAYS
from receiver.policy.window import LONGEST, Window, active
from receiver.settings import Settings
from receiver.yaml.diagnostics import Report
from receiver.yaml.nodes import parse
from receiver.yaml.scalars import BAD
from receiver.yaml.values import Readers
from tests.factories import parse_matcher

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0


def at(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def cron(text: str, lasts: float, zone: str = "Europe/Berlin", **more: object) -> Window:
    fields = {"name": "w", "cron": text, "lasts": lasts, "timezone": zone} | more
    return Window(**fields)  # type: ignore[arg-type]  # a table of the fields that differ


def weekly(*texts: str, zone: str = "Europe/Berlin", **more: object) -> Window:
    fields = {"name": "w", "weekly": texts, "timezone": zone} | more
    return Window(**fields)  # type: ignore[arg-type]  # as above


def hours(window: Window, day: str) -> float:
    """How many hours of a day in Berlin are inside, and that each end that is told is one."""
    begin = at(day)
    inside = 0
    for minute in range(round((at(f"{date.fromisoformat(day) + timedelta(1)}") - begin) / 60)):
        now = begin + minute * 60
        until = window.active_until(now)
        inside += until is not None
        assert until is None or window.active_until(until - 0.001) is not None
    return inside / 60


# --- by the week ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("tue 22:00 - wed 02:00", "2026-07-07T22:00", "2026-07-08T02:00"),
        ("sat 00:00 - sun 24:00", "2026-07-11T00:00", "2026-07-13T00:00"),
        ("fri 22:00 - mon 06:30", "2026-07-10T22:00", "2026-07-13T06:30"),
        ("sun 23:00 - mon 01:00", "2026-07-12T23:00", "2026-07-13T01:00"),
        ("wed 00:00 - mon 24:00", "2026-07-08T00:00", "2026-07-14T00:00"),
        ("tue 22:00 - mon 24:00", "2026-07-07T22:00", "2026-07-14T00:00"),
        ("mon 12:00 - 13:00", "2026-07-06T12:00", "2026-07-06T13:00"),
        ("sun 22:00 - 02:00", "2026-07-12T22:00", "2026-07-13T02:00"),
        ("Sun  9:00-9:05", "2026-07-12T09:00", "2026-07-12T09:05"),
        ("fri-mon 00:00 - 24:00", "2026-07-10T00:00", "2026-07-14T00:00"),
    ],
)
def test_a_part_of_the_week_is_inside_from_its_start_to_before_its_end(
    text: str, begin: str, end: str
) -> None:
    window = weekly(text)
    start, stop = at(begin), at(end)
    assert window.active_until(start - 0.001) is None
    assert window.active_until(start) == stop
    assert window.active_until(stop - 0.001) == stop
    assert window.active_until(stop) is None
    assert window.active_until(start + 7 * 24 * HOUR) == stop + 7 * 24 * HOUR


def test_days_from_to_are_each_a_window_of_their_own() -> None:
    window = weekly("mon-fri 22:00 - 02:00")
    inside = [
        hour
        for hour in range(7 * 24)
        if window.active_until(at("2026-07-06") + hour * HOUR) is not None
    ]
    assert inside == [
        hour
        for hour in range(7 * 24)
        if (hour % 24 >= 22 and hour // 24 < 5) or (hour % 24 < 2 and 1 <= hour // 24 < 6)
    ]


def test_parts_that_adjoin_or_overlap_end_together() -> None:
    window = weekly("sun 00:00 - 24:00", "sat 00:00 - 24:00", "mon 00:00 - 03:00", "mon 02:00-4:00")
    assert window.active_until(at("2026-07-11T12:00")) == at("2026-07-13T04:00")


def test_a_window_without_an_end_says_when_to_ask_again() -> None:
    window = weekly("mon-sun 00:00 - 24:00")
    now = at("2026-07-11T12:00")
    for _ in range(10):
        until = window.active_until(now)
        assert until is not None
        assert now < until <= now + 15 * 24 * HOUR
        now = until


@pytest.mark.parametrize(
    ("text", "day", "expected"),
    [
        # 02:00 to 03:00 is left out.
        ("sun 01:30 - 03:30", "2026-03-29", 1.0),
        ("sun 01:30 - 02:30", "2026-03-29", 0.5),
        ("sun 02:15 - 02:45", "2026-03-29", 0.0),
        ("sun 02:30 - 04:00", "2026-03-29", 1.0),
        ("sun 00:00 - 24:00", "2026-03-29", 23.0),
        # 02:00 to 03:00 comes twice.
        ("sun 01:30 - 03:30", "2026-10-25", 3.0),
        ("sun 01:30 - 02:30", "2026-10-25", 2.0),
        ("sun 02:15 - 02:45", "2026-10-25", 1.5),
        ("sun 02:30 - 04:00", "2026-10-25", 2.5),
        ("sun 01:00 - 02:00", "2026-10-25", 1.0),
        ("sun 03:00 - 04:00", "2026-10-25", 1.0),
        ("sun 00:00 - 24:00", "2026-10-25", 25.0),
    ],
)
def test_it_ends_by_the_clock_when_clocks_change(text: str, day: str, expected: float) -> None:
    assert hours(weekly(text), day) == expected


# --- by cron --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lasts", "day", "expected"),
    [
        ("30 1 * * *", 2 * HOUR, "2026-03-29", 2.0),
        ("30 2 * * *", 2 * HOUR, "2026-03-29", 2.0),
        ("30 1 * * *", 2 * HOUR, "2026-10-25", 2.0),
        ("30 2 * * *", 2 * HOUR, "2026-10-25", 2.0),
        ("30 2 * * *", HOUR / 2, "2026-10-25", 0.5),
        ("30 * * * *", HOUR / 2, "2026-03-29", 11.5),
        ("30 * * * *", HOUR / 2, "2026-10-25", 12.5),
    ],
)
def test_it_ends_by_duration_when_clocks_change(
    text: str, lasts: float, day: str, expected: float
) -> None:
    assert hours(cron(text, lasts), day) == expected


def test_a_start_that_is_left_out_comes_when_the_clocks_are_set_forward() -> None:
    window = cron("30 2 * * *", 2 * HOUR)
    begin = at("2026-03-29T03:00")
    assert window.active_until(begin - 0.001) is None
    assert window.active_until(begin) == begin + 2 * HOUR
    assert window.active_until(begin + 2 * HOUR) is None


def test_a_start_that_comes_twice_counts_the_first_time() -> None:
    window = cron("30 2 * * *", HOUR / 4)
    assert window.active_until(at("2026-10-25T02:30")) == at("2026-10-25T02:45")
    assert window.active_until(at("2026-10-25T02:30", fold=1)) is None


def test_debian_takes_both_days_when_both_are_given() -> None:
    window = cron("0 0 13 * fri", 24 * HOUR, "UTC")
    noons = [at(f"2026-07-{day:02}T12:00", "UTC") for day in range(1, 32)]
    inside = [day for day, noon in enumerate(noons, 1) if window.active_until(noon) is not None]
    assert inside == [3, 10, 13, 17, 24, 31]


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("0 2 29 2 *", "2028-02-29T02:00"),
        ("0 2 29 2 *", "2104-02-29T02:00"),
        ("0 2 * 2 MON#5", "2044-02-29T02:00"),
    ],
)
def test_what_comes_once_in_years_is_found_without_long_looking(text: str, begin: str) -> None:
    window = cron(text, HOUR)
    start = at(begin)
    assert window.active_until(start) == start + HOUR
    assert window.active_until(start + HOUR) is None
    began = time.process_time()
    for day in range(20):
        assert window.active_until(start - (day + 1) * 24 * HOUR) is None
    assert time.process_time() - began < 0.5


def test_what_adjoins_for_ever_is_found_without_long_looking() -> None:
    window = cron("* * * * *", LONGEST)
    now = at("2026-07-11T12:00")
    began = time.process_time()
    until = window.active_until(now)
    assert until is not None
    assert until > now
    assert time.process_time() - began < 0.5


# --- all of it ------------------------------------------------------------------------------------

CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),  # half an hour
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Africa/Cairo", "2026-04-24"),  # at midnight
    ("Africa/Cairo", "2026-10-30"),
    ("Pacific/Apia", "2011-12-30"),  # a whole day
    ("Asia/Kolkata", "2026-01-01"),  # none
    ("UTC", "2026-01-01"),
]
BEFORE, AROUND, AFTER = 9 * 1440, 1800, 9 * 1440
"""Minutes that the model knows before and after the change, and that are compared around it."""
SOME = settings(max_examples=80, deadline=None)


class Days(NamedTuple):
    """What a clock shows at each minute around a change."""

    first: int
    """In minutes since the epoch."""
    walls: list[datetime]
    latest: list[datetime]
    """The latest time shown so far."""
    earliest: list[datetime]
    """The earliest time shown from then on."""


@cache
def days(zone: str, day: str) -> Days:
    info = ZoneInfo(zone)
    first = int(at(day, zone)) // 60 - BEFORE
    walls = [
        datetime.fromtimestamp(minute * 60, info).replace(tzinfo=None)
        for minute in range(first, first + BEFORE + AFTER)
    ]
    earliest = list(accumulate(reversed(walls), min))[::-1]
    return Days(first, walls, list(accumulate(walls, max)), earliest)


class Part(NamedTuple):
    """A part of the week, in minutes since Monday."""

    text: str
    start: int
    end: int


@st.composite
def parts(draw: st.DrawFn) -> Part:
    clock = st.builds(
        lambda hour, minute: hour * 60 + minute,
        st.integers(0, 5) | st.integers(0, 23),
        st.sampled_from([0, 0, 15, 30, 59]),
    )
    first, last = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    begin, end = draw(clock), draw(clock | st.just(1440))
    assume(last != first or end > begin)
    times = [f"{minutes // 60:02}:{minutes % 60:02}" for minutes in (begin, end)]
    start = first * 1440 + begin
    length = (last * 1440 + end - start) % 10080 or 10080
    return Part(f"{DAYS[first]} {times[0]} - {DAYS[last]} {times[1]}", start, start + length)


def compare(window: Window, known: Days, stretches: Iterable[tuple[int, int]]) -> None:
    """Each minute around the change, in its order and then in none: what is kept must not matter.

    *stretches* are those of the model, in minutes since the first.
    """
    inside = bytearray(len(known.walls))
    for begin, end in stretches:
        inside[begin:end] = b"\1" * (min(end, len(inside)) - begin)
    far = 7 * 1440 if window.weekly else 99  # where looking for what adjoins may end
    around = range(BEFORE - AROUND, BEFORE + AROUND)
    for minute in (*around, *(around[at * 991 % len(around)] for at in range(300))):
        now = (known.first + minute) * 60.0
        until = window.active_until(now)
        assert until == window.active_until(now + 59.999)
        assert (until is not None) == bool(inside[minute]), known.walls[minute]
        if until is not None:
            end = round(until / 60) - known.first
            assert minute < end
            assert 0 not in inside[minute:end]
            if end < len(inside) and inside[end]:
                assert inside.find(0, end) == -1 or end - inside.rfind(0, 0, minute) > far


@SOME
@given(st.sampled_from(CHANGES), st.lists(parts(), min_size=1, max_size=4))
def test_parts_of_the_week_are_what_clocks_show(change: tuple[str, str], found: list[Part]) -> None:
    known = days(*change)
    monday = datetime.fromisoformat(change[1])
    monday -= timedelta(days=monday.weekday())
    stretches = []
    for part in found:
        for week in range(-3, 4):
            begin, end = (
                monday + timedelta(weeks=week, minutes=minutes)
                for minutes in (part.start, part.end)
            )
            stretches.append((bisect_left(known.latest, begin), bisect_left(known.earliest, end)))
    compare(weekly(*(part.text for part in found), zone=change[0]), known, stretches)


class Field(NamedTuple):
    text: str
    values: frozenset[int]


def fields(low: int, high: int, often: int) -> st.SearchStrategy[Field]:
    """A field of a cron expression, with few of its values preferred: the change is at night."""
    everything = range(low, high + 1)
    value = st.integers(low, often) | st.integers(low, high)
    return st.one_of(
        st.just(Field("*", frozenset(everything))),
        st.builds(
            lambda step: Field(f"*/{step}", frozenset(everything[::step])),
            st.sampled_from([2, 5, 7, 15]),
        ),
        st.builds(lambda one: Field(str(one), frozenset({one})), value),
        st.builds(
            lambda some: Field(",".join(map(str, some)), frozenset(some)),
            st.lists(value, min_size=2, max_size=3),
        ),
    )


def starts(minute: Field, hour: Field, day: Field, weekday: Field, known: Days) -> Iterator[int]:
    """When Debian's cron starts a job, by the words of its manual."""
    both = "*" in (day.text[0], weekday.text[0])

    def meant(wall: datetime) -> bool:
        if wall.minute not in minute.values or wall.hour not in hour.values:
            return False
        on_day = wall.day in day.values
        on_weekday = (wall.weekday() + 1) % 7 in weekday.values
        return (on_day and on_weekday) if both else (on_day or on_weekday)

    seen = known.walls[0] - timedelta(minutes=1)
    for index, wall in enumerate(known.walls):
        if "*" in (minute.text[0], hour.text[0]):
            if meant(wall):
                yield index
            continue
        if wall <= seen:
            continue
        left_out = range(1, round((wall - seen).total_seconds() / 60) + 1)
        if any(meant(seen + timedelta(minutes=more)) for more in left_out):
            yield index
        seen = wall


@SOME
@given(
    st.sampled_from(CHANGES),
    fields(0, 59, 2),
    fields(0, 23, 4),
    st.just(Field("*", frozenset(range(1, 32)))) | fields(1, 31, 7),
    st.just(Field("*", frozenset(range(7)))) | fields(0, 6, 6),
    st.sampled_from([1, 30, 60, 95, 1440, 1441, 7 * 1440]),
)
def test_a_cron_starts_as_debians(
    change: tuple[str, str], minute: Field, hour: Field, day: Field, weekday: Field, lasts: int
) -> None:
    known = days(*change)
    begun = starts(minute, hour, day, weekday, known)
    window = cron(f"{minute.text} {hour.text} {day.text} * {weekday.text}", lasts * 60.0, change[0])
    compare(window, known, ((start, start + lasts) for start in begun))


# --- several --------------------------------------------------------------------------------------


def test_of_several_windows_the_one_that_lasts_longest() -> None:
    first = weekly("sat 10:00 - 12:00", zone="UTC", name="a")
    second = weekly("sat 10:00 - 14:00", zone="UTC", name="b")
    third = cron("0 0 * * sat", 13 * HOUR, "UTC", name="c")
    noon = at("2026-07-11T11:00", "UTC")
    for windows in ([first, second, third], [third, second, first]):
        assert active(windows, {}, noon) == (second, noon + 3 * HOUR)
    assert active([first], {}, noon + HOUR) is None
    assert active([], {}, noon) is None


def test_only_alerts_with_its_labels() -> None:
    match = (parse_matcher('team="payments"'), parse_matcher('severity!="critical"'))
    window = weekly("sat 10:00 - 12:00", match=match)
    now = at("2026-07-11T11:00")
    assert active([window], {"team": "payments"}, now) == (window, now + HOUR)
    assert active([window], {"team": "payments", "severity": "critical"}, now) is None
    assert active([window], {"team": "search"}, now) is None


@pytest.mark.alone
def test_a_decision_may_ask_often() -> None:
    windows = [
        cron("0 2 * * *", 1.5 * HOUR),
        cron("*/5 * * * *", 60),
        cron("0 2 29 2 *", HOUR),
        weekly("mon-fri 22:00 - 02:00", "sat 00:00 - sun 24:00"),
        weekly("tue 12:00 - 13:00", match=(parse_matcher('team="payments"'),)),
    ]
    now = at("2026-07-07T12:30:00")
    spent = []
    for _ in range(5):
        began = time.perf_counter()
        for call in range(1000):
            active(windows, {"team": "payments"}, now + call / 10)
        spent.append((time.perf_counter() - began) / 1000)
    assert min(spent) < 50e-6


# --- what is written ------------------------------------------------------------------------------

YAML = """\
maintenance:
  - name: nightly backup
    cron: "0 2 * * *"
    for: 1h30m
    timezone: Europe/Berlin
  - name: release train
    weekly: ["tue 22:00 - wed 02:00", "sat 00:00 - sun 24:00", "mon-fri 12:00 - 13:00"]
    timezone: America/New_York
    match: ['team="payments"']
"""


def read(text: str) -> tuple[Settings, Report]:
    report = Report("promheal.yml", text)
    node = parse(text, report)
    assert node is not None
    return Readers().of(Settings)(node, report), report


def test_it_is_read_from_yaml() -> None:
    settings, report = read(YAML)
    assert not report.problems
    nightly, train = settings.maintenance
    assert nightly == cron("0 2 * * *", 5400, name="nightly backup")
    assert train.match == (parse_matcher('team="payments"'),)
    assert active(settings.maintenance, {}, at("2026-07-07T02:00")) == (
        nightly,
        at("2026-07-07T03:30"),
    )
    assert train.active_until(at("2026-07-08T01:00", "America/New_York")) is not None


def test_times_are_utc_unless_a_zone_is_named() -> None:
    window = Window(name="w", cron="0 2 * * *", lasts=60)
    assert window.active_until(datetime(2026, 7, 7, 2, 0, 30, tzinfo=UTC).timestamp()) is not None


PROBLEMS = [
    ("{}", "missing key 'name'"),
    ("{name: w}", "write either `cron` with `for`, or `weekly`"),
    ("{name: w, weekly: []}", "write either `cron` with `for`, or `weekly`"),
    (
        "{name: w, cron: 0 2 * * *, for: 1h, weekly: [sun 00:00 - 24:00]}",
        "write either `cron` with `for`, or `weekly`",
    ),
    ("{name: w, cron: 0 2 * * *}", "write with `for` how long it lasts"),
    ("{name: w, weekly: [sun 00:00 - 24:00], for: 1h}", "remove `for`"),
    ("{name: w, cron: 0 2 * * *, for: 8d}", "a window cannot be 8d long; write more than 0s and"),
    ("{name: w, cron: 0 2 * * *, for: 0s}", "at most 7d"),
    ("{name: w, cron: 0 2 * * *, for: 90}", "'90' is not a duration; write for example 30s"),
    ("{name: w, cron: '@daily', for: 1h}", "'@daily' is no cron expression: it needs five fields"),
    ("{name: w, cron: 0 0 2 * * *, for: 1h}", "it needs five fields; write minute, hour, day of"),
    ("{name: w, cron: 60 2 * * *, for: 1h}", "bad minute"),
    ("{name: w, cron: 0 24 * * *, for: 1h}", "bad hour"),
    ("{name: w, cron: 0 0 30 2 *, for: 1h}", "bad day-of-month"),
    ("{name: w, cron: 0 0 * jam *, for: 1h}", "bad month"),
    ("{name: w, cron: 0 0 * * fri-mon, for: 1h}", "bad day-of-week"),
    (f"{{name: w, cron: {'9' * 5000} 0 * * *, for: 1h}}", "exceeds the limit"),
    ("{name: w, weekly: [tue]}", "'tue' is no part of a week; write for example 'tue 22:00 - wed"),
    ("{name: w, weekly: [tue 22:00]}", "is no part of a week"),
    ("{name: w, weekly: [tue 22 - 23]}", "is no part of a week"),
    ("{name: w, weekly: [tuesday 22:00 - 23:00]}", "'tuesday' is no day; write one of mon, tue"),
    ("{name: w, weekly: [mon-foo 22:00 - 23:00]}", "'foo' is no day"),
    ("{name: w, weekly: [mon 22:00 - bar 23:00]}", "'bar' is no day"),
    ("{name: w, weekly: [tue 25:00 - 26:00]}", "'25:00' is no time; write 00:00 to 23:59, or 24:"),
    ("{name: w, weekly: [tue 22:00 - 24:01]}", "'24:01' is no time"),
    ("{name: w, weekly: [tue 22:60 - 23:00]}", "'22:60' is no time"),
    ("{name: w, weekly: [tue 24:00 - wed 01:00]}", "write 00:00 of the next day"),
    ("{name: w, weekly: [tue 12:00 - 12:00]}", "write 00:00 - 24:00 for a whole day"),
    ("{name: w, weekly: [tue 12:00 - Tue 11:00]}", "name the day on which it ends"),
    ("{name: w, weekly: [mon-fri 12:00 - sat 11:00]}", "'mon-fri 12:00 - 11:00' for each of"),
    ("{name: w, weekly: [sun 00:00 - 24:00], timezone: europe/berln}", "mean 'Europe/Berlin'?"),
    ("{name: w, weekly: [sun 00:00 - 24:00], timezone: utc}", "did you mean 'UTC'?"),
    ("{name: w, weekly: [sun 00:00 - 24:00], timezone: Europe}", "'Europe' is no time zone"),
    ("{name: w, weekly: [sun 00:00 - 24:00], timezone: ../../etc/passwd}", "is no time zone"),
    ("{name: w, weekly: [sun 00:00 - 24:00], timezone: '?'}", "write for example Europe/Berlin"),
    ("{name: w, weekly: [sun 00:00 - 24:00], match: [a]}", "no operator after a"),
    ("{name: '', weekly: [sun 00:00 - 24:00]}", "must not be empty"),
]


@pytest.mark.parametrize(("text", "message"), PROBLEMS, ids=[text[:60] for text, _ in PROBLEMS])
def test_what_makes_no_window_is_told_with_its_remedy(text: str, message: str) -> None:
    value, report = read(f"maintenance: [{text}]")
    assert value is BAD
    (problem,) = report.problems
    assert message in problem.message


def test_a_problem_stands_at_its_text() -> None:
    _, report = read(
        "maintenance:\n  - name: w\n    weekly: [sun 00:00 - 24:00, tue 22]\n    timezone: Mars\n"
    )
    assert [(problem.line, problem.column) for problem in report.problems] == [(3, 33), (4, 15)]


def test_code_cannot_make_one_that_a_file_cannot() -> None:
    for fields in (
        {"cron": "0 2 * *", "lasts": 60.0},
        {"cron": "0 2 * * *", "lasts": LONGEST + 1},
        {"weekly": ("tue",)},
        {"weekly": ("sun 00:00 - 24:00",), "timezone": "Mars"},
    ):
        with pytest.raises(ValueError, match="write"):
            Window(name="w", **fields)
    with pytest.raises(AttributeError):
        cron("0 2 * * *", 60).name = "other"  # type: ignore[misc]  # it is frozen


def test_a_machine_without_time_zones_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sunday = at("2026-07-12", "UTC")
    for name in [name for name in sys.modules if name.partition(".")[0] == "tzdata"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tzdata", None)
    zoneinfo.reset_tzpath(to=[tmp_path])
    ZoneInfo.clear_cache()
    try:
        with pytest.raises(ValueError, match="install the package tzdata, or write UTC"):
            weekly("sun 00:00 - 24:00", zone="Indian/Chagos")
        assert weekly("sun 00:00 - 24:00", zone="UTC").active_until(sunday)
    finally:
        zoneinfo.reset_tzpath()


def test_every_example_of_the_schema_is_taken_and_is_what_it_describes() -> None:
    info = msgspec.inspect.type_info(Window)
    assert isinstance(info, msgspec.inspect.StructType)
    types = {field.encode_name: field.type for field in info.fields}
    assert isinstance(types["cron"], msgspec.inspect.UnionType)
    assert isinstance(types["for"], msgspec.inspect.UnionType)
    assert isinstance(types["weekly"], msgspec.inspect.Metadata)
    weekly = types["weekly"].type
    assert isinstance(weekly, msgspec.inspect.VarTupleType)
    for found in (
        types["cron"].types[0],
        types["for"].types[0],
        weekly.item_type,
        types["timezone"],
    ):
        assert isinstance(found, msgspec.inspect.Metadata)
        schema = found.extra_json_schema or {}
        assert schema["examples"]
        for example in schema["examples"]:
            assert (found.extra or {})["parse"](example)
            assert re.search(schema.get("pattern", ""), example)
