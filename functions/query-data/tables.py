"""Rejected files and the run history, as lines of JSON."""

from dataclasses import dataclass
from typing import Literal

from .filters import where
from .formats import JSON, TABLE_FORMATS, Format
from .negotiation import format_parameter, negotiate, query_parameters
from .paging import AFTER, Order, Page, Position, limit_parameter, read_page
from .parameters import parse_parameters
from .shared.api import Event
from .shared.storage.connection import Connection
from .shared.storage.sql import BindValues

PARAMETERS = {"limit": limit_parameter(100), "after": AFTER, "format": format_parameter(TABLE_FORMATS)}


@dataclass(frozen=True)
class Table:
    """A table to page through."""

    name: Literal["rejected", "runs"]
    columns: tuple[str, ...]
    order: Order


REJECTED = Table(
    "rejected",
    # last_seen: when the content, the reason or the rules last changed
    ("object", "line", "code", "message", "first_seen", "last_seen"),
    Order(name="object", key="object", key_type="text", tiebreaker="object"),
)
RUNS = Table(
    "runs",
    (
        "id",
        "trigger",
        "call_id",
        "scope",
        "started_at",
        "finished_at",
        "status",
        "summary",
        "error",
    ),
    Order(name="-id", key="id", key_type="bigint", tiebreaker="id", tiebreaker_type="bigint", descending=True),
)


@dataclass(frozen=True)
class PageRequest:
    """A parsed request for a page of a table; `after` is the end of the previous page."""

    table: Table
    limit: int
    after: Position | None = None
    format: Format = JSON


def parse_page_request(table: Table, event: Event) -> PageRequest:
    """Parse a request for a page. Raises ApiError if it is invalid."""
    values = parse_parameters(PARAMETERS, query_parameters(event, TABLE_FORMATS))
    after = values["after"]
    return PageRequest(
        table,
        values["limit"],
        None if after is None else table.order.parse_cursor(after),
        values["format"] or negotiate(event.headers.get("Accept"), TABLE_FORMATS),
    )


def read_table(connection: Connection, request: PageRequest) -> Page:
    table, parameters = request.table, BindValues()
    clauses = [table.order.after_condition(request.after, parameters.bind)] if request.after else []
    rows = f"select {', '.join(table.columns)} from {table.name} {where(clauses)} {table.order.sql}"  # noqa: S608
    sql = f"{rows} limit {request.limit + 1}"
    return read_page(connection, table.name, sql, JSON, table.order, request.limit, parameters)


def count(connection: Connection, table: Table) -> int:
    return int(connection.run(f"select count(*) from {table.name}")[0][0])  # noqa: S608 - a constant


def reasons(connection: Connection) -> list[tuple[str, int]]:
    """Return the number of rejected files by code, the most frequent code first."""
    rows = connection.run("select code, count(*) from rejected group by code order by 2 desc, 1")
    return [(code, number) for code, number in rows]
