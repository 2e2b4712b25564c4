"""Rejected files and the run history: as PostgreSQL writes them, an object a line."""

from dataclasses import dataclass
from typing import Literal

from werkzeug.datastructures import MultiDict

from .filters import where
from .formats import JSON, LISTING_FORMATS, Format, format_parameter, negotiated
from .paging import AFTER, Order, Page, Place, limit, read_page
from .parameters import read_parameters
from .shared.storage.records import Connection, Parameters

PARAMETERS = {"limit": limit(100), "after": AFTER, "format": format_parameter(LISTING_FORMATS)}


@dataclass(frozen=True)
class Listing:
    """A table to page through."""

    table: Literal["rejected", "runs"]
    columns: tuple[str, ...]
    order: Order


REJECTED = Listing(
    "rejected",
    ("object", "line", "code", "message", "first_seen", "last_seen"),
    Order("object", "object", "text", "object"),
)
RUNS = Listing(
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
    Order("-id", "id", "bigint", "id", tie_type="bigint", descending=True),
)


@dataclass(frozen=True)
class PageRequest:
    """Which page of a listing is requested; `after` is where the previous one ended."""

    listing: Listing
    limit: int
    after: Place | None = None
    format: Format = JSON


def parse_page_request(listing: Listing, query: MultiDict[str, str], accept: str | None) -> PageRequest:
    """Check the request's query and its Accept; ApiError says what is invalid and what is expected."""
    values = read_parameters(PARAMETERS, query)
    after = values["after"]
    return PageRequest(
        listing,
        values["limit"],
        None if after is None else listing.order.parse_cursor(after),
        values["format"] or negotiated(accept, LISTING_FORMATS),
    )


def page(records: Connection, request: PageRequest) -> Page:
    listing, parameters = request.listing, Parameters()
    after = [listing.order.after_condition(request.after, parameters.bind)] if request.after else []
    rows = f"select {', '.join(listing.columns)} from {listing.table} {where(after)} {listing.order.sql}"  # noqa: S608
    sql = f"{rows} limit {request.limit + 1}"
    return read_page(records, listing.table, sql, JSON, listing.order, request.limit, parameters)


def total(records: Connection, listing: Listing) -> int:
    return int(records.run(f"select count(*) from {listing.table}")[0][0])  # noqa: S608 - a constant


def reasons(records: Connection) -> list[tuple[str, int]]:
    """The codes that files are rejected with and how many each, the most frequent first."""
    rows = records.run("select code, count(*) from rejected group by code order by 2 desc, 1")
    return [(code, number) for code, number in rows]
