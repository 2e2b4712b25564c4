"""Age: whole years since the last birthday plus the part of the way to the next one, in days.

Someone born on 29 February has their birthday on 1 March in common years. Ages are IEEE doubles, here and
in SQL, so what a filter compares with is what an answer shows.
"""

from datetime import date, timedelta
from functools import lru_cache

OLDEST = 200
"""Years: the greatest age that can be asked for."""


def age(birthdate: date, today: date) -> float:
    """Age in years; below 0 before the birth."""
    years = today.year - birthdate.year
    if today < _birthday(birthdate, today.year):
        years -= 1
    last, following = (_birthday(birthdate, birthdate.year + n) for n in (years, years + 1))
    return years + (today - last).days / (following - last).days


def _birthday(birthdate: date, year: int) -> date:
    return date(year, birthdate.month, 1) + timedelta(days=birthdate.day - 1)


@lru_cache(maxsize=1024)
def latest_birthdate(today: date, *, at_least: float | None = None, over: float | None = None) -> date:
    """The latest birthdate whose age is `at_least` so many years, or `over` them. Years: 0 to OLDEST."""

    def old_enough(birthdate: date) -> bool:
        years = age(birthdate, today)
        return (at_least is None or years >= at_least) and (over is None or years > over)

    # a later birth never means a greater age, so the days can be bisected
    early, late = date(today.year - OLDEST - 2, 1, 1), today + timedelta(days=1)
    while (days := (late - early).days) > 1:
        middle = early + timedelta(days=days // 2)
        early, late = (middle, late) if old_enough(middle) else (early, middle)
    return early


_QUARTERS = "(4 * (birthdate - date '0001-03-01 BC') + 3)"

MARCH_DATE = f"""
    100 * ({_QUARTERS} / 146097) + ({_QUARTERS} % 146097 | 3) / 1461 as march_year,
    ({_QUARTERS} % 146097 | 3) % 1461 / 4 as march_day"""
"""The columns that `age_sql` needs, over one named birthdate.

They are its date in a calendar whose year begins on 1 March and whose days count from 0. There 29 February is
day 365, which in common years is the next 1 March: no case is special. They are counted in quarters of a day, of
which a century has 146097 and a year 1461; the last quarter of its day stands for a date, and `| 3` finds it again
within the century. The date functions would take twice as long.
"""


def age_sql(today: date) -> str:
    """`age` as an SQL expression over `MARCH_DATE`.

    It names each column several times: have them made by a query of its own that is ordered or limited, which
    PostgreSQL makes once a row, or else it writes them out in each place.
    """
    year = today.year if today.month >= 3 else today.year - 1
    last, this, following = (date(n, 3, 1) for n in (year - 1, year, year + 1))
    day = (today - this).days
    days_this, days_last = (following - this).days, (this - last).days
    return f"""
case when march_day <= {day}
    then {year} - march_year + ({day} - march_day) / {days_this}::float8
    else {year - 1} - march_year + ({day + days_last} - march_day) / {days_last}::float8
end"""
