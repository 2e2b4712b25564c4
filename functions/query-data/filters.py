"""Who is asked for: the filters, and the condition that they are in SQL."""

from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from .age import OLDEST, latest_birthdate
from .parameters import LONGEST_NAME, Parameter, boolean, name, refusal, user_id, years
from .shared.storage.records import Bind, literal


@dataclass(frozen=True)
class Filters:
    """Which people are asked for. Ages are in years, both ends included; None and () stand for everyone."""

    is_image_exists: bool | None = None
    min_age: float | None = None
    max_age: float | None = None
    user_id: tuple[str, ...] = ()
    name: str | None = None

    @property
    def given(self) -> set[str]:
        """The names of those that do not stand for everyone."""
        return {one.name for one in fields(self) if getattr(self, one.name) != one.default}


_YEARS = f"years from 0 to {OLDEST}, such as 30 or 30.5"
_BOOLEAN = "true, false, 1 or 0"
_BOOLEAN_PATTERN = {"type": "string", "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|1|0)$"}
_AGE = {"type": "number", "minimum": 0, "maximum": OLDEST}

FILTERS = {
    "is_image_exists": Parameter(_BOOLEAN, "who has a photo, or who has none", boolean, _BOOLEAN_PATTERN),
    "min_age": Parameter(_YEARS, "who is at least so old", years, _AGE),
    "max_age": Parameter(_YEARS, "who is at most so old", years, _AGE),
    "user_id": Parameter(
        "1 to 18 digits, and it may be repeated",
        "these users",
        user_id,
        {"type": "string", "pattern": "^[0-9]{1,18}$"},
        default=(),
        repeatable=True,
    ),
    "name": Parameter(
        f"1 to {LONGEST_NAME} characters",
        "whose first or last name begins so, in any case",
        name,
        {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME},
    ),
}


def make_filters(values: dict[str, Any]) -> Filters:
    """The filters among the values that were read; ApiError when they contradict each other."""
    filters = Filters(**{one: values[one] for one in FILTERS})
    if filters.min_age is not None and filters.max_age is not None and filters.min_age > filters.max_age:
        message = f"min_age={_plain(filters.min_age)} is over max_age={_plain(filters.max_age)}: it must not be"
        raise refusal("min_age", message)
    return filters


def conditions(filters: Filters, today: date, bind: Bind = literal) -> list[str]:
    """SQL that holds for the people asked for."""
    found = []
    if filters.is_image_exists is not None:
        found.append(f"img_path is {'not ' if filters.is_image_exists else ''}null")
    if filters.min_age is not None:
        found.append(f"birthdate <= {bind(latest_birthdate(today, at_least=filters.min_age))}")
    if filters.max_age is not None:
        found.append(f"birthdate > {bind(latest_birthdate(today, over=filters.max_age))}")
    if filters.user_id:
        user_ids = ",".join(filters.user_id)
        found.append(f"user_id = any({bind(f'{{{user_ids}}}')})")
    if filters.name is not None:
        begins = f"like lower({bind(_escaped(filters.name))}) || '%'"
        found.append(f"""(lower(first_name) collate "C" {begins} or lower(last_name) collate "C" {begins})""")
    return found


def where(found: list[str]) -> str:
    return f"where {' and '.join(found)}" if found else ""


def _escaped(text: str) -> str:
    """The text as LIKE takes it literally."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _plain(years: float) -> str:
    return repr(years).removesuffix(".0")
