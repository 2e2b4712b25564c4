"""The roll in figures."""

import json
from datetime import date, timedelta
from typing import Any

from .age import OLDEST, latest_birthdate
from .cache import Cache
from .filters import Filters, conditions, where
from .listings import REJECTED, RUNS, PageRequest, page, total
from .shared.storage.records import Connection
from .versions import States

_DECADES = range(10, OLDEST + 1, 10)


def stats(connection: Connection, cache: Cache[Any], states: States, filters: Filters, today: date) -> dict[str, Any]:
    """Counts of the people that the filters let through, with and without a photo and by age; rejected; last run."""
    counted: dict[str, Any] = cache.get(
        ("stats", states["users"], filters, today), lambda: _count(connection, filters, today)
    )
    rejected = cache.get(("rejected", states["rejected"]), lambda: total(connection, REJECTED))
    return counted | {"rejected": rejected, "last_run": last_run(connection)}


def _count(connection: Connection, filters: Filters, today: date) -> dict[str, Any]:
    rows = connection.run(_by_decade(filters, today))
    people, with_photo = sum(row[1] for row in rows), sum(row[2] for row in rows)
    return {
        "people": people,
        "with_photo": with_photo,
        "without_photo": people - with_photo,
        "ages": _ages({len(_DECADES) - row[0]: row[1] for row in rows}),
    }


def last_run(records: Connection) -> dict[str, Any] | None:
    """The run that began last, as /runs shows it; None before the first one."""
    lines = page(records, PageRequest(RUNS, limit=1)).lines
    run: dict[str, Any] | None = json.loads(lines) if lines else None
    return run


def _by_decade(filters: Filters, today: date) -> str:
    """Each bucket has those who are under so many of the decades' ages."""
    under = sorted(latest_birthdate(today, at_least=years) + timedelta(days=1) for years in _DECADES)
    dates = ", ".join(f"date '{day}'" for day in under)
    return f"""
select width_bucket(birthdate, array[{dates}]), count(*), count(img_path)
from users {where(conditions(filters, today))}
group by 1"""  # noqa: S608 - what is written into it was checked or quoted


def _ages(people: dict[int, int]) -> list[dict[str, int]]:
    """A bar for each decade from 0 to the oldest person's."""
    return [
        {"from": 10 * decade, "under": 10 * decade + 10, "people": people.get(decade, 0)}
        for decade in range(max(people, default=-1) + 1)
    ]
