"""Queries for users: filters, order, page and format."""

from dataclasses import dataclass
from typing import cast

from .filters import BOOLEAN_FORMAT, BOOLEAN_SCHEMA, FILTERS, Filters, make_filters
from .formats import FORMATS, Format
from .negotiation import format_parameter, negotiate, query_parameters
from .paging import AFTER, MAX_LIMIT, ORDERS, Order, Position, limit_parameter
from .parameters import Parameter, one_of, parse_boolean, parse_parameters
from .shared.api import Event

PEOPLE_PER_PAGE = 50
"""The default of `limit` on the web page, unless the request names users."""

PARAMETERS = FILTERS | {
    "sort": Parameter(
        ", ".join(ORDERS),
        "order, `-` for descending; default: user_id; ties broken by user_id; last names are lower-cased, then "
        "compared by code point",
        one_of(ORDERS),
        {"type": "string", "enum": list(ORDERS), "default": "user_id"},
        default=ORDERS["user_id"],
    ),
    "limit": limit_parameter(None, f"all, or {PEOPLE_PER_PAGE} on the web page"),
    "after": AFTER,
    "count": Parameter(
        BOOLEAN_FORMAT,
        "include the total number of matches: as `count` in JSON and NDJSON, and as the header `X-Total-Count` in all "
        "formats but HTML",
        parse_boolean,
        BOOLEAN_SCHEMA,
        default=False,
    ),
    "format": format_parameter(FORMATS),
}


@dataclass(frozen=True)
class Query:
    """A parsed query. `after` is the end of the previous page.

    Without `limit` all results are streamed; in HTML, a page has PEOPLE_PER_PAGE results.
    """

    filters: Filters
    order: Order
    limit: int | None
    after: Position | None
    count: bool
    format: Format


def parse_query(event: Event) -> Query:
    """Parse a request for users. Raises ApiError if it is invalid."""
    values = parse_parameters(PARAMETERS, query_parameters(event, FORMATS))
    filters, order = make_filters(values), cast("Order", values["sort"])
    user_count = len(filters.user_id)  # a lookup of up to MAX_LIMIT users is a page, not a stream
    return Query(
        filters=filters,
        order=order,
        limit=values["limit"] or (user_count if 0 < user_count <= MAX_LIMIT else None),
        after=None if values["after"] is None else order.parse_cursor(values["after"]),
        count=values["count"],
        format=values["format"] or negotiate(event.headers.get("Accept"), FORMATS),
    )
