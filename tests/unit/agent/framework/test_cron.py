"""Cron expressions: which minutes they name, in a time zone whose clock is set twice a year as well."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent.cron import check_time_zone, parse_cron
from procession.ipc.core.errors import InvalidRequest

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: object = UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("* * * * *", "2026-03-01T12:00:00", "2026-03-01T12:01"),
        ("* * * * *", "2026-03-01T12:00:59", "2026-03-01T12:01"),
        ("*/15 * * * *", "2026-03-01T12:46:00", "2026-03-01T13:00"),
        ("5,35 8-18/5 * * *", "2026-03-01T08:35:00", "2026-03-01T13:05"),
        ("0 9 * * MON-FRI", "2026-02-27T09:00:00", "2026-03-02T09:00"),
        ("0 0 * * 7", "2026-03-02T00:00:00", "2026-03-08T00:00"),
        ("0 0 * * SUN", "2026-03-02T00:00:00", "2026-03-08T00:00"),
        ("0 0 13 * FRI", "2026-03-01T00:00:00", "2026-03-06T00:00"),
        ("0 0 13 * FRI", "2026-03-06T00:00:00", "2026-03-13T00:00"),
        ("0 0 */2 * FRI", "2026-03-01T00:00:00", "2026-03-13T00:00"),
        ("0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29T00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00"),
        ("@hourly", "2026-03-01T12:00:00", "2026-03-01T13:00"),
        ("@Daily", "2026-03-01T12:00:00", "2026-03-02T00:00"),
        ("@weekly", "2026-03-02T12:00:00", "2026-03-08T00:00"),
        ("@monthly", "2026-03-01T00:00:00", "2026-04-01T00:00"),
        ("@yearly", "2026-03-01T00:00:00", "2027-01-01T00:00"),
        ("30 2 1 jan *", "2026-03-01T00:00:00", "2027-01-01T02:30"),
        ("10/20 * * * *", "2026-03-01T12:11:00", "2026-03-01T12:30"),
    ],
)
def test_the_next_time_is(cron, after, expected):
    assert parse_cron(cron).next_after(at(after)) == at(expected)


def test_what_never_comes_is_none():
    assert parse_cron("0 0 30 2 *").next_after(at("2026-03-01")) is None


@pytest.mark.contract("3 cron")
def test_a_minute_that_the_clock_leaves_out_does_not_come():
    found = parse_cron("30 2 * * *").next_after(at("2026-03-28T12:00", BERLIN))  # 29 March: 02:00 is 03:00
    assert found == at("2026-03-30T02:30", BERLIN)


@pytest.mark.contract("3 cron")
def test_a_minute_that_the_clock_repeats_comes_once():
    first = parse_cron("30 2 * * *").next_after(at("2026-10-25T01:00", BERLIN))  # 25 October: 03:00 is 02:00 again
    assert first is not None
    assert first.astimezone(UTC) == at("2026-10-25T00:30")
    assert parse_cron("30 2 * * *").next_after(first) == at("2026-10-26T02:30", BERLIN)
    again = (first.astimezone(UTC) + timedelta(minutes=50)).astimezone(BERLIN)  # 02:20, the second time
    assert again.fold == 1
    assert parse_cron("30 2 * * *").next_after(again) == at("2026-10-26T02:30", BERLIN)


fields = st.tuples(
    st.sampled_from(["*", "0", "*/7", "10-20", "59"]),
    st.sampled_from(["*", "3", "*/5", "22,23"]),
    st.sampled_from(["*", "1", "*/3", "31"]),
    st.sampled_from(["*", "1-6", "12"]),
    st.sampled_from(["*", "0", "1-5", "7"]),
).map(" ".join)


@pytest.mark.contract("3 cron")
@given(fields, st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001 - bounds are naive
@settings(max_examples=examples(60), deadline=None)
def test_the_next_time_is_the_first_that_fits(cron, start):
    expression = parse_cron(cron)
    start = start.replace(tzinfo=UTC)
    found = expression.next_after(start)
    assert found is not None
    assert fits(cron, found)
    minute = start.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while minute < min(found, start + timedelta(hours=30)):
        assert not fits(cron, minute)
        minute += timedelta(minutes=1)


def fits(cron: str, when: datetime) -> bool:
    """The manual's words, for the shapes above."""

    def one(field: str, value: int, least: int) -> bool:
        if field.startswith("*/"):
            return (value - least) % int(field[2:]) == 0
        if "-" in field:
            low, high = field.split("-")
            return int(low) <= value <= int(high)
        return field == "*" or value in map(int, field.split(","))

    minute, hour, month_day, month, week_day = cron.split()
    in_month = one(month_day, when.day, 1)
    weekday = when.isoweekday() % 7
    in_week = one(week_day, weekday, 0) or one(week_day, 7 if weekday == 0 else weekday, 0)
    either = not month_day.startswith("*") and not week_day.startswith("*")
    day = (in_month or in_week) if either else (in_month and in_week)
    return one(minute, when.minute, 0) and one(hour, when.hour, 0) and one(month, when.month, 1) and day


@pytest.mark.contract("3 cron")
@pytest.mark.parametrize(
    ("cron", "why"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * *", "6 fields"),
        ("60 * * * *", "minute has '60'"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of month"),
        ("* * * 13 *", "month"),
        ("* * * FOO *", "'FOO'"),
        ("* * * * 8", "day of week"),
        ("5-1 * * * *", "names nothing"),
        ("*/0 * * * *", "names nothing"),
        ("a-b-c * * * *", "cannot be read"),
        ("1,,2 * * * *", "cannot be read"),
        ("-1 * * * *", "cannot be read"),
        ("@never", "1 fields"),
        ("²  * * * *", "cannot be read"),
        ("* " * 200, "at most 256"),
        (None, "must be a text"),
    ],
)
def test_a_wrong_expression_is_told_why(cron, why):
    with pytest.raises(InvalidRequest, match=why) as caught:
        parse_cron(cron)
    assert caught.value.code == "invalid_cron"


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])
def test_a_time_zone_has_a_name(name):
    check_time_zone(name)


@pytest.mark.contract("3 cron")
@pytest.mark.parametrize("name", ["", "../../etc/passwd", "/etc/localtime", "a b", "x" * 65, None, "a/b/c/d"])
def test_what_names_none_is_refused(name):
    with pytest.raises(InvalidRequest) as caught:
        check_time_zone(name)
    assert caught.value.code == "invalid_timezone"
