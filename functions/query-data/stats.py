"""Statistics of users, rejected files and the last run."""

from datetime import date, timedelta
from typing import Any

from .age import MAX_AGE, latest_birthdate
from .cache import Cache
from .etags import States
from .filters import Filters, conditions, where
from .shared.storage.connection import Connection
from .tables import REJECTED, RUNS, PageRequest, read_table
from .tables import count as count_rows

_DECADES = range(10, MAX_AGE + 1, 10)


def stats(connection: Connection, cache: Cache[Any], states: States, filters: Filters, today: date) -> dict[str, Any]:
    """Return the numbers of matching users by photo and by age, the number of rejected files, and the last run."""
    counts: dict[str, Any] = cache.get(
        ("stats", states["users"], filters, today), lambda: _count(connection, filters, today)
    )
    rejected = cache.get(("rejected", states["rejected"]), lambda: count_rows(connection, REJECTED))
    return counts | {"rejected": rejected, "last_run": last_run(connection)}


def _count(connection: Connection, filters: Filters, today: date) -> dict[str, Any]:
    rows = connection.run(_count_by_decade_sql(filters, today))
    people, with_photo = sum(row[1] for row in rows), sum(row[2] for row in rows)
    return {
        "people": people,
        "with_photo": with_photo,
        "without_photo": people - with_photo,
        "ages": _ages({len(_DECADES) - not_reached: count for not_reached, count, _ in rows}),
    }


def last_run(connection: Connection) -> dict[str, Any] | None:
    """Return the run that started last, as in /runs, or None before the first one."""
    return next(iter(read_table(connection, PageRequest(RUNS, limit=1)).rows), None)


def _count_by_decade_sql(filters: Filters, today: date) -> str:
    """Return SQL that counts users by how many of the ages in `_DECADES` they have not reached."""
    # For each age, the earliest birthdate of those who have not reached it. width_bucket returns how many of these
    # dates are on or before the user's birthdate: one for each age that the user has not reached.
    too_young_from = sorted(latest_birthdate(today, at_least=years) + timedelta(days=1) for years in _DECADES)
    dates = ", ".join(f"date '{day}'" for day in too_young_from)
    return f"""
select width_bucket(birthdate, array[{dates}]), count(*), count(img_path)
from users {where(conditions(filters, today))}
group by 1"""  # noqa: S608 - values are dates or literals


def _ages(people_by_decade: dict[int, int]) -> list[dict[str, int]]:
    """Return the decades of age from 0 to the oldest user's, empty ones included."""
    return [
        {"from": 10 * decade, "under": 10 * decade + 10, "people": people_by_decade.get(decade, 0)}
        for decade in range(max(people_by_decade, default=-1) + 1)
    ]
