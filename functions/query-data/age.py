"""Age: whole years at the last birthday, plus the days since then divided by those between it and the next birthday.

In non-leap years, 29 February birthdays fall on 1 March. Ages are IEEE doubles in Python and in SQL, so filters compare
with exactly the ages that responses contain.
"""

from datetime import date, timedelta
from functools import lru_cache

MAX_AGE = 200
"""Years: the maximum of the age filters."""


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
    """The birthdate of the youngest people who are at least `at_least` years old today, or older than `over`.

    `at_least` and `over` are from 0 to MAX_AGE.
    """

    def old_enough(birthdate: date) -> bool:
        years = age(birthdate, today)
        return (at_least is None or years >= at_least) and (over is None or years > over)

    # age never increases with the birthdate, so bisect the days
    early, late = date(today.year - MAX_AGE - 2, 1, 1), today + timedelta(days=1)
    while (days := (late - early).days) > 1:
        middle = early + timedelta(days=days // 2)
        early, late = (middle, late) if old_enough(middle) else (early, middle)
    return early


_QUARTERS = "(4 * (birthdate - date '0001-03-01 BC') + 3)"

MARCH_DATE = f"""
    100 * ({_QUARTERS} / 146097) + ({_QUARTERS} % 146097 | 3) / 1461 as march_year,
    ({_QUARTERS} % 146097 | 3) % 1461 / 4 as march_day"""
"""The columns that `age_sql` uses, from a column `birthdate`: its year and day in a calendar that begins on 1 March.

Days count from 0. 29 February is day 365, which in non-leap years is the next 1 March, so there is no special case.
This is the usual conversion of a day number to a civil date, in quarters of a day: the average century has 146097, the
average year 1461. A date is the last quarter of its day; `| 3` restores that. PostgreSQL's date functions take twice as
long.
"""


def age_sql(today: date) -> str:
    """`age` as an SQL expression over `MARCH_DATE`.

    It uses each column several times: select them in a subquery with ORDER BY or LIMIT, so that PostgreSQL computes
    them once per row instead of inlining their expressions.
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
