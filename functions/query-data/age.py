"""Exact ages: whole years, plus the days since the last birthday divided by the days between the last and the next.

In non-leap years, 29 February birthdays fall on 1 March. Python and SQL compute the same IEEE doubles, so the filters
compare exactly the ages that responses contain.
"""

from datetime import date, timedelta
from functools import lru_cache

MAX_AGE = 200
"""The maximum age that the filters accept, in years."""


def age(birthdate: date, today: date) -> float:
    """Return the age in years, negative if `today` is before the birthdate."""
    years = today.year - birthdate.year
    if today < _birthday(birthdate, today.year):
        years -= 1
    last, following = (_birthday(birthdate, birthdate.year + n) for n in (years, years + 1))
    return years + (today - last).days / (following - last).days


def _birthday(birthdate: date, year: int) -> date:
    return date(year, birthdate.month, 1) + timedelta(days=birthdate.day - 1)


@lru_cache(maxsize=1024)
def latest_birthdate(today: date, *, at_least: float | None = None, over: float | None = None) -> date:
    """Return the latest birthdate of a person who is at least `at_least` years old today, or older than `over`.

    Set exactly one of the two, from 0 to MAX_AGE.
    """

    def old_enough(birthdate: date) -> bool:
        years = age(birthdate, today)
        return (at_least is None or years >= at_least) and (over is None or years > over)

    # a later birthdate never gives a higher age, so bisect: `early` is always old enough, `late` never
    early, late = date(today.year - MAX_AGE - 2, 1, 1), today + timedelta(days=1)
    while (days := (late - early).days) > 1:
        middle = early + timedelta(days=days // 2)
        early, late = (middle, late) if old_enough(middle) else (early, middle)
    return early


_QUARTERS = "(4 * (birthdate - date '0001-03-01 BC') + 3)"

MARCH_DATE = f"""
    100 * ({_QUARTERS} / 146097) + ({_QUARTERS} % 146097 | 3) / 1461 as march_year,
    ({_QUARTERS} % 146097 | 3) % 1461 / 4 as march_day"""
"""SQL columns for `age_sql`: the year and the day of `birthdate` in a calendar whose years begin on 1 March.

Days count from 0. 29 February is day 365, which in non-leap years is the next 1 March, so it needs no special case.

The unit of the calculation is a quarter of a day: a century has 146097 of them on average, a year within it 1461. A
date stands for the last quarter of its day, hence `+ 3` and `| 3`. PostgreSQL's date functions take twice as long.
"""


def age_sql(today: date) -> str:
    """Return an SQL expression for the age, computed from the columns of `MARCH_DATE`.

    Select these columns in a subquery with ORDER BY or LIMIT. PostgreSQL inlines other subqueries, and would then
    compute a column again at each of its uses.
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
