"""What was refused and why, and what ran when: as PostgreSQL writes them, an object a line."""

from dataclasses import dataclass
from typing import Literal

from werkzeug.datastructures import MultiDict

from .filters import where
from .formats import JSON_LINE
from .paging import AFTER, Order, Page, limit, read_page
from .parameters import read_parameters
from .shared.storage.records import Connection

PARAMETERS = {"limit": limit(100), "after": AFTER}


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
        "summary - 'rejections' as summary",
        "error",
    ),
    Order("-id", "id", "bigint", "id", tie_type="bigint", descending=True),
)


@dataclass(frozen=True)
class Part:
    """Which part of a listing is asked for; `behind` is SQL, true of what comes after the cursor."""

    listing: Listing
    limit: int
    behind: str | None = None


def read_part(listing: Listing, query: MultiDict[str, str]) -> Part:
    """Check the request's query; ApiError says what is wrong with it and what is allowed."""
    values = read_parameters(PARAMETERS, query)
    after = values["after"]
    return Part(listing, values["limit"], None if after is None else listing.order.behind(after))


def page(records: Connection, part: Part) -> Page:
    listing, behind = part.listing, [part.behind] if part.behind else []
    rows = f"select {', '.join(listing.columns)} from {listing.table} {where(behind)} {listing.order.sql}"  # noqa: S608
    return read_page(records, listing.table, f"{rows} limit {part.limit + 1}", JSON_LINE, listing.order, part.limit)


def total(records: Connection, listing: Listing) -> int:
    return int(records.run(f"select count(*) from {listing.table}")[0][0])  # noqa: S608 - a constant


def reasons(records: Connection) -> list[tuple[str, int]]:
    """The codes that files are rejected with and how many each, the most frequent first."""
    rows = records.run("select code, count(*) from rejected group by code order by 2 desc, 1")
    return [(code, number) for code, number in rows]
