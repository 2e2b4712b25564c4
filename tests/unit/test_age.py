"""Ages are exact. `latest_birthdate`, on which the age filters are based, agrees with them to the day."""

import time
from bisect import bisect_left
from calendar import isleap
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import inf, nextafter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from query_data import endpoints
from query_data.age import MAX_AGE, age, latest_birthdate
from query_data.stats import _ages

DAY = timedelta(days=1)
TODAYS = [
    date(2026, 11, 24),
    date(2024, 2, 28),
    date(2024, 2, 29),
    date(2024, 3, 1),
    date(2023, 2, 28),
    date(2023, 3, 1),
    date(2100, 2, 28),
    date(2100, 3, 1),
    date(2026, 12, 31),
    date(2027, 1, 1),
]


def is_birthday(day: date, birthdate: date) -> bool:
    if (birthdate.month, birthdate.day) == (2, 29) and not isleap(day.year):
        return (day.month, day.day) == (3, 1)
    return (day.month, day.day) == (birthdate.month, birthdate.day)


def age_by_counting(birthdate: date, today: date) -> float:
    """Compute an age by its definition, counting days."""
    years, since, until = 0, 0, 1
    day = birthdate
    while day < today:
        day += DAY
        since += 1
        if is_birthday(day, birthdate):
            years, since = years + 1, 0
    while not is_birthday(today + until * DAY, birthdate):
        until += 1
    return years + since / (since + until)


@settings(max_examples=150, deadline=None)
@given(st.dates(date(1850, 1, 1), date(2110, 1, 1)), st.integers(0, 120 * 365))
def test_age_matches_counting_days(birthdate: date, days: int) -> None:
    today = birthdate + days * DAY
    assert age(birthdate, today) == age_by_counting(birthdate, today)


@pytest.mark.parametrize("today", TODAYS, ids=str)
@pytest.mark.parametrize("year", [1852, 1896, 1904, 1999, 2000, 2004, 2023])
def test_age_around_the_leap_day_matches_counting_days(year: int, today: date) -> None:
    first = date(year, 2, 26)
    for birthdate in (first + n * DAY for n in range(6)):
        if birthdate <= today:
            assert age(birthdate, today) == age_by_counting(birthdate, today)


@pytest.mark.parametrize(
    ("birthdate", "today", "expected"),
    [
        (date(1990, 6, 15), date(2020, 6, 15), 30.0),
        (date(1990, 6, 15), date(2020, 6, 14), 29 + 365 / 366),
        (date(1990, 6, 15), date(2020, 12, 15), 30 + 183 / 365),
        (date(2000, 2, 29), date(2023, 2, 28), 22 + 364 / 365),
        (date(2000, 2, 29), date(2023, 3, 1), 23.0),
        (date(2000, 2, 29), date(2024, 2, 29), 24.0),
        (date(2026, 11, 24), date(2026, 11, 24), 0.0),
    ],
)
def test_age_matches_known_examples(birthdate: date, today: date, expected: float) -> None:
    assert age(birthdate, today) == expected


@pytest.mark.parametrize("zone", ["ahead-14", "behind+12"])
def test_today_is_the_date_in_utc(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """At any moment, the date in at least one of these time zones differs from the date in UTC."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        before, today, after = datetime.now(UTC).date(), endpoints._today(), datetime.now(UTC).date()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert before <= today <= after


@pytest.mark.parametrize("today", TODAYS, ids=str)
def test_latest_birthdates_match_ages_to_the_day(today: date) -> None:
    birthdates = [today - n * DAY for n in range((MAX_AGE + 1) * 366)]  # youngest first
    ages = [age(birthdate, today) for birthdate in birthdates]
    assert all(younger <= older for younger, older in pairwise(ages))
    sample = {0.0, 1.0, 30.5, float(MAX_AGE), *ages[:800:7], *ages[9000:11000:97], *ages[70000:73000:131]}
    for years in sample | {nextafter(years, inf) for years in sample} | {nextafter(years, 0) for years in sample}:
        if years <= MAX_AGE:
            assert latest_birthdate(today, at_least=years) == birthdates[bisect_left(ages, years)]
            assert latest_birthdate(today, over=years) == birthdates[bisect_left(ages, nextafter(years, inf))]


def test_statistics_have_all_decades_of_age_up_to_the_oldest_user() -> None:
    assert _ages({}) == []
    assert [tuple(group.values()) for group in _ages({2: 5})] == [(0, 10, 0), (10, 20, 0), (20, 30, 5)]
