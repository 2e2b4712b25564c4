"""Keyset pagination: orders, cursors and pages.

A cursor contains the position of a page's last row in an order. So rows that are added or removed between two requests
do not cause others to be repeated or skipped. A cursor is valid only for its order, but with any filters.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, NamedTuple

from .etags import State, TableName, state_sql
from .formats import Format
from .parameters import Parameter, whole_number
from .shared.api import ApiError, invalid_parameter
from .shared.storage.connection import Connection
from .shared.storage.sql import Bind, BindValues, literal

MAX_LIMIT = 1000


class Position(NamedTuple):
    """A row's position in an order: its key and its tiebreaker, both as strings."""

    key: str
    tiebreaker: str


@dataclass(frozen=True)
class Order:
    """A total order by `key`, an SQL expression, then by `tiebreaker`, a unique column, in the same direction.

    `key_type` and `tiebreaker_type` are their SQL types. `name` is the column that `key` is computed from, with a `-`
    before it if the order is descending.
    """

    name: str
    key: str
    key_type: str
    tiebreaker: str
    tiebreaker_type: str = "text"
    descending: bool = False

    @property
    def sql(self) -> str:
        direction = "desc" if self.descending else "asc"
        keys = [self.tiebreaker] if self.key == self.tiebreaker else [self.key, self.tiebreaker]
        return f"order by {', '.join(f'{key} {direction}' for key in keys)}"

    def after_condition(self, position: Position, bind: Bind) -> str:
        """Return an SQL condition that selects the rows after the position."""
        operator, tiebreaker = "<" if self.descending else ">", f"{bind(position.tiebreaker)}::{self.tiebreaker_type}"
        if self.key == self.tiebreaker:
            return f"{self.tiebreaker} {operator} {tiebreaker}"
        return f"({self.key}, {self.tiebreaker}) {operator} ({bind(position.key)}::{self.key_type}, {tiebreaker})"

    def cursor(self, connection: Connection, row: Mapping[str, Any]) -> str:
        """Return the cursor of a row. `row` is its parsed line."""
        return encode_cursor([self.name, self._key_of(connection, row), str(row[self.tiebreaker])])

    def _key_of(self, connection: Connection, row: Mapping[str, Any]) -> str:
        """Return the row's key, computed by PostgreSQL if it is not a column."""
        if self.key in row:
            return str(row[self.key])
        column = self.name.removeprefix("-")
        value = f"select {literal(row[column])}::{self.key_type} as {column}"
        return str(connection.run(f"select ({self.key})::text from ({value}) as result")[0][0])  # noqa: S608

    def parse_cursor(self, cursor: str) -> Position:
        """Return the position in a cursor. Raises ApiError if it is not a cursor of this order."""
        name, key, tiebreaker = decode_cursor(cursor, length=3)
        if name != self.name:
            raise invalid_parameter("after", "invalid after: the cursor belongs to another list or order")
        try:
            is_valid = _VALIDATORS[self.key_type](key) and _VALIDATORS[self.tiebreaker_type](tiebreaker)
        except (ValueError, TypeError):
            is_valid = False
        if not is_valid:
            raise invalid_cursor()
        return Position(key, tiebreaker)


def encode_cursor(values: list[Any]) -> str:
    """Encode the values as a URL-safe string."""
    return urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, length: int) -> list[Any]:
    """Return the `length` values in a cursor. Raises ApiError if it is malformed."""
    try:
        values = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):  # RecursionError: deeply nested brackets
        raise invalid_cursor() from None
    if not isinstance(values, list) or len(values) != length:
        raise invalid_cursor()
    return values


def invalid_cursor() -> ApiError:
    return invalid_parameter("after", f"invalid after: expected {AFTER.expected}")


@dataclass(frozen=True)
class Page:
    """Rows as whole lines, the state of their table, and the cursor of the next page (None for the last page)."""

    lines: bytes
    state: State
    cursor: str | None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The parsed lines, which must be JSON."""
        return [json.loads(line) for line in self.lines.splitlines()]


def read_page(
    connection: Connection,
    table: TableName,
    select: str,
    fmt: Format,
    order: Order,
    limit: int,
    parameters: BindValues | None = None,
) -> Page:
    """Read a page of at most `limit` rows and the state of the table in one statement, and so from one snapshot.

    `select` is an ordered SELECT of at most `limit` + 1 rows. With `parameters` the statement is prepared (see
    `Connection.run_prepared`).
    """
    sql = f"select string_agg({fmt.line}, E'\n'), count(*), {state_sql(table)} from ({select}) as result"  # noqa: S608
    result = connection.run_prepared(sql, **parameters.values) if parameters else connection.run(sql)
    [[lines, row_count, *state]] = result
    if row_count <= limit:
        return Page(f"{lines}\n".encode() if row_count else b"", state, None)
    lines = lines.rpartition("\n")[0]
    last = fmt.parse_line(lines.rpartition("\n")[2])
    return Page(f"{lines}\n".encode(), state, order.cursor(connection, last))


_VALIDATORS: dict[str, Callable[[str], object]] = {
    "text": lambda text: not re.search("[\0\ud800-\udfff]", text),  # PostgreSQL's text cannot contain these
    "date": lambda text: re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) and date.fromisoformat(text),
    "bigint": lambda text: re.fullmatch(r"[0-9]{1,18}", text),
}

_ASCENDING = (
    Order("user_id", "user_id", "text", "user_id"),
    Order("birthdate", "birthdate", "date", "user_id"),
    Order("last_name", 'lower(last_name) collate "C"', "text", "user_id"),
)

ORDERS = {
    order.name: order
    for ascending in _ASCENDING
    for order in (ascending, replace(ascending, name=f"-{ascending.name}", descending=True))
}
"""The orders of users, by the value of the parameter `sort`."""


def limit_parameter(default: int | None, default_description: str = "") -> Parameter:
    return Parameter(
        f"1 to {MAX_LIMIT}",
        f"maximum number of results; default: {default_description or default}",
        whole_number(1, MAX_LIMIT),
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
        default=default,
    )


AFTER = Parameter(
    "the value of the parameter `after` in a response's `next` URL",
    "continue after the last result of an earlier response",
    str,
    {"type": "string"},
)
