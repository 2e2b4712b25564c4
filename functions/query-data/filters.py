"""Filters and their SQL."""

from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from .age import MAX_AGE, latest_birthdate
from .parameters import MAX_NAME_LENGTH, Parameter, parse_boolean, parse_name, parse_user_id, parse_years
from .shared.api import invalid_parameter
from .shared.storage.sql import Bind, literal
from .shared.user_ids import USER_ID_FORMAT, USER_ID_PATTERN


@dataclass(frozen=True)
class Filters:
    """The filters of a query. None and () do not filter."""

    is_image_exists: bool | None = None
    min_age: float | None = None
    max_age: float | None = None
    user_id: tuple[str, ...] = ()
    name: str | None = None

    @property
    def active(self) -> set[str]:
        """The names of the filters that are set."""
        return {field.name for field in fields(self) if getattr(self, field.name) != field.default}


_YEARS_FORMAT = f"years from 0 to {MAX_AGE}, such as 30 or 30.5"
_YEARS_SCHEMA = {"type": "number", "minimum": 0, "maximum": MAX_AGE}
BOOLEAN_FORMAT = "true, false, 1 or 0"
BOOLEAN_SCHEMA = {"type": "string", "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|1|0)$"}

FILTERS = {
    "is_image_exists": Parameter(BOOLEAN_FORMAT, "users with a photo, or without one", parse_boolean, BOOLEAN_SCHEMA),
    "min_age": Parameter(_YEARS_FORMAT, "minimum age, inclusive", parse_years, _YEARS_SCHEMA),
    "max_age": Parameter(_YEARS_FORMAT, "maximum age, inclusive", parse_years, _YEARS_SCHEMA),
    "user_id": Parameter(
        USER_ID_FORMAT,
        "these users; repeatable",
        parse_user_id,
        {"type": "string", "pattern": f"^{USER_ID_PATTERN}$"},
        default=(),
        repeatable=True,
    ),
    "name": Parameter(
        f"1 to {MAX_NAME_LENGTH} characters, without control characters",
        "first or last name begins with this text, case-insensitive",
        parse_name,
        {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH},
    ),
}


def make_filters(values: dict[str, Any]) -> Filters:
    """Build the filters from parsed parameters. Raises ApiError if min_age is over max_age."""
    filters = Filters(**{name: values[name] for name in FILTERS})
    if filters.min_age is not None and filters.max_age is not None and filters.min_age > filters.max_age:
        expected = f"at most max_age={_format_years(filters.max_age)}"
        raise invalid_parameter("min_age", f"invalid min_age={_format_years(filters.min_age)}: expected {expected}")
    return filters


def conditions(filters: Filters, today: date, bind: Bind = literal) -> list[str]:
    """Return SQL conditions that select the matching rows of `users`."""
    clauses = []
    if filters.is_image_exists is not None:
        clauses.append(f"img_path is {'not ' if filters.is_image_exists else ''}null")
    if filters.min_age is not None:
        clauses.append(f"birthdate <= {bind(latest_birthdate(today, at_least=filters.min_age))}")
    if filters.max_age is not None:
        clauses.append(f"birthdate > {bind(latest_birthdate(today, over=filters.max_age))}")
    if filters.user_id:
        user_ids = ",".join(filters.user_id)
        clauses.append(f"user_id = any({bind(f'{{{user_ids}}}')})")
    if filters.name is not None:
        matches = f"like lower({bind(_escape_like(filters.name))}) || '%'"
        clauses.append(f"""(lower(first_name) collate "C" {matches} or lower(last_name) collate "C" {matches})""")
    return clauses


def where(clauses: list[str]) -> str:
    return f"where {' and '.join(clauses)}" if clauses else ""


def _escape_like(text: str) -> str:
    """Escape the special characters of LIKE."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _format_years(years: float) -> str:
    return repr(years).removesuffix(".0")
