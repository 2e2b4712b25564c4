"""A request for people: who, in which order, how many, from where on, and in which format."""

from dataclasses import dataclass
from typing import cast

from werkzeug.datastructures import MultiDict

from .filters import FILTERS, Filters, make_filters
from .formats import FORMATS, Format, format_parameter, negotiated
from .paging import AFTER, LARGEST_PAGE, ORDERS, Order, Place, limit
from .parameters import Parameter, boolean, one_of, read_parameters

PARAMETERS = FILTERS | {
    "sort": Parameter(
        ", ".join(ORDERS),
        "the order, `-` for descending; people alike come by user_id; names in any case, by their letters' code points",
        one_of(ORDERS),
        {"type": "string", "enum": list(ORDERS), "default": "user_id"},
        default=ORDERS["user_id"],
    ),
    "limit": limit(None),
    "after": AFTER,
    "count": Parameter(
        "true, false, 1 or 0",
        "how many there are in all, as `count` in JSON and as the header `X-Total-Count`",
        boolean,
        FILTERS["is_image_exists"].schema,
        default=False,
    ),
    "format": format_parameter(FORMATS),
}


@dataclass(frozen=True)
class Query:
    """What is asked for.

    `limit` None streams everyone; users that are named fit a page. `after` is where the previous page ended.
    """

    filters: Filters
    order: Order
    limit: int | None
    after: Place | None
    count: bool
    format: Format


def read_query(query: MultiDict[str, str], accept: str | None) -> Query:
    """Check the request's query; ApiError says what is wrong with it and what is allowed."""
    values = read_parameters(PARAMETERS, query)
    filters, order = make_filters(values), cast("Order", values["sort"])
    users = len(filters.user_id)
    return Query(
        filters=filters,
        order=order,
        limit=values["limit"] or (users if 0 < users <= LARGEST_PAGE else None),
        after=None if values["after"] is None else order.parse_cursor(values["after"]),
        count=values["count"],
        format=values["format"] or negotiated(accept),
    )
