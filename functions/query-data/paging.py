"""Orders and the cursors that lead from one page to the next.

A cursor is the place of a page's last row in its order, so what is added or removed meanwhile neither
repeats nor hides any other row. It is bound to its order and to nothing else: with other filters it means
the rows behind the same place.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from .parameters import Parameter, refusal, whole_number
from .shared.api import ApiError
from .shared.storage.records import Connection, literal
from .versions import Data, State, state_sql

LARGEST_PAGE = 1000


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

    def behind(self, cursor: str) -> str:
        """The condition on the rows behind the cursor; ApiError when it is not one of this order."""
        key, tie = self._place(cursor)
        operator = "<" if self.descending else ">"
        if self.key == self.tie:
            return f"{self.tie} {operator} {tie}"
        return f"({self.key}, {self.tie}) {operator} ({key}, {tie})"

    def cursor(self, key: str, tie: str) -> str:
        """The cursor of the row with these texts."""
        return encode_cursor([self.name, key, tie])

    def _place(self, cursor: str) -> tuple[str, str]:
        name, key, tie = decode_cursor(cursor, length=3)
        if name != self.name:
            raise refusal("after", f"after belongs to another order than {self.name}: keep sort as it was")
        try:
            return _literal(key, self.key_type), _literal(tie, self.tie_type)
        except (ValueError, TypeError):
            raise invalid_cursor() from None


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


def read_page(records: Connection, data: Data, rows: str, line: str, order: Order, limit: int) -> Page:
    """At most `limit` of the rows; `rows` is SQL that gives one more, in order, and `line` SQL over a row `one`.

    They come with the state of `data` by one statement, which spares a round trip and sees one snapshot.
    """
    # fmt: off
    sql = f"""
select
    string_agg({line}, E'\n'),
    count(*),
    ((array_agg({order.key}))[{limit}])::text,
    ((array_agg({order.tie}))[{limit}])::text,
    {state_sql(data)}
from ({rows}) as one
"""  # noqa: S608 - what is written into it was checked or quoted
    # fmt: on
    [[lines, number, key, tie, *state]] = records.run(sql)
    if number > limit:
        return Page(lines[: lines.rindex("\n") + 1].encode(), state, order.cursor(key, tie))
    return Page(f"{lines}\n".encode() if number else b"", state, None)


def _literal(text: Any, kind: str) -> str:
    """The text as an SQL literal of that type; ValueError or TypeError when it can't be."""
    if not _KINDS[kind](text):
        raise ValueError
    return f"{literal(text)}::{kind}"


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
