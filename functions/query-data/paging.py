"""Orders and the cursors that lead from one page to the next.

A cursor is the place of a page's last row in its order, so what is added or removed meanwhile neither
repeats nor hides any other row. It is bound to its order and to nothing else: with other filters it means
the rows behind the same place.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from .formats import Format
from .parameters import Parameter, refusal, whole_number
from .shared.api import ApiError
from .shared.storage.records import Bind, Connection, Parameters, literal
from .versions import Data, State, state_sql

LARGEST_PAGE = 1000


class Place(NamedTuple):
    """A row's place in an order, as texts of the key and of the tie."""

    key: str
    tie: str


@dataclass(frozen=True)
class Order:
    """A total order: by `key`, an SQL expression, then by `tie`, a unique column; both in one direction.

    `key_type` and `tie_type` are their SQL types, whose texts a cursor holds.
    """

    name: str
    key: str
    key_type: str
    tie: str
    tie_type: str = "text"
    descending: bool = False

    @property
    def sql(self) -> str:
        direction = "desc" if self.descending else "asc"
        keys = [self.tie] if self.key == self.tie else [self.key, self.tie]
        return f"order by {', '.join(f'{key} {direction}' for key in keys)}"

    def after_condition(self, place: Place, bind: Bind) -> str:
        """SQL that is true of the rows after the place."""
        operator, tie = "<" if self.descending else ">", f"{bind(place.tie)}::{self.tie_type}"
        if self.key == self.tie:
            return f"{self.tie} {operator} {tie}"
        return f"({self.key}, {self.tie}) {operator} ({bind(place.key)}::{self.key_type}, {tie})"

    def cursor(self, connection: Connection, row: Mapping[str, Any]) -> str:
        """The cursor of a row that was read from its line."""
        return encode_cursor([self.name, self._key_of(connection, row), str(row[self.tie])])

    def _key_of(self, connection: Connection, row: Mapping[str, Any]) -> str:
        if self.key in row:
            return str(row[self.key])
        column = self.name.removeprefix("-")
        value = f"select {literal(row[column])}::{self.key_type} as {column}"
        return str(connection.run(f"select ({self.key})::text from ({value}) as one")[0][0])  # noqa: S608

    def parse_cursor(self, cursor: str) -> Place:
        """The place that the cursor is; ApiError when it is not one of this order."""
        name, key, tie = decode_cursor(cursor, length=3)
        if name != self.name:
            raise refusal("after", f"after belongs to another order than {self.name}: keep sort as it was")
        try:
            is_valid = _KINDS[self.key_type](key) and _KINDS[self.tie_type](tie)
        except (ValueError, TypeError):
            is_valid = False
        if not is_valid:
            raise invalid_cursor()
        return Place(key, tie)


def encode_cursor(values: list[Any]) -> str:
    """The values as text that may stand in a URL."""
    return urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, length: int) -> list[Any]:
    """The values that were encoded; ApiError when there are not as many."""
    try:
        values = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):  # the last: brackets in brackets
        raise invalid_cursor() from None
    if not isinstance(values, list) or len(values) != length:
        raise invalid_cursor()
    return values


def invalid_cursor() -> ApiError:
    return refusal("after", "after is not allowed: only what an answer's `next` has in its place")


@dataclass(frozen=True)
class Page:
    """Whole lines, the state of the data that they show, and the cursor to the next page; None when there is none."""

    lines: bytes
    state: State
    cursor: str | None


def read_page(
    connection: Connection,
    data: Data,
    rows: str,
    form: Format,
    order: Order,
    limit: int,
    parameters: Parameters | None = None,
) -> Page:
    """At most `limit` of the rows, a line each; `rows` is SQL that gives one more, in order.

    With its parameters, it is SQL that `run_prepared` takes.

    They come with the state of `data` by one statement, which spares a round trip and sees one snapshot.
    """
    sql = f"select string_agg({form.line}, E'\n'), count(*), {state_sql(data)} from ({rows}) as one"  # noqa: S608
    rows_read = connection.run_prepared(sql, **parameters.values) if parameters else connection.run(sql)
    [[lines, number, *state]] = rows_read
    if number <= limit:
        return Page(f"{lines}\n".encode() if number else b"", state, None)
    lines = lines.rpartition("\n")[0]
    last = form.parse_line(lines.rpartition("\n")[2])
    return Page(f"{lines}\n".encode(), state, order.cursor(connection, last))


_KINDS: dict[str, Callable[[str], object]] = {
    "text": lambda text: isinstance(text, str) and "\0" not in text and text.encode() is not None,
    "date": lambda text: re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) and date.fromisoformat(text),
    "bigint": lambda text: re.fullmatch(r"[0-9]{1,18}", text),
}

_SORTS = (
    Order("user_id", "user_id", "text", "user_id"),
    Order("birthdate", "birthdate", "date", "user_id"),
    Order("last_name", 'lower(last_name) collate "C"', "text", "user_id"),
)

ORDERS = {
    f"{sign}{one.name}": Order(f"{sign}{one.name}", one.key, one.key_type, one.tie, descending=bool(sign))
    for one in _SORTS
    for sign in ("", "-")
}
"""The orders of people by what `sort` calls them."""


def limit(default: int | None) -> Parameter:
    return Parameter(
        f"1 to {LARGEST_PAGE}",
        f"at most so many; {default or 'all of them'} when it isn't given",
        whole_number(1, LARGEST_PAGE),
        {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE},
        default=default,
    )


AFTER = Parameter(
    "what an answer's `next` has in its place", "what comes after that answer's last one", str, {"type": "string"}
)
