"""The web page of people: the filter form, statistics and results."""

from datetime import date
from typing import Any

from werkzeug.datastructures import MultiDict

from .. import tables, users
from ..cache import Cache
from ..etags import States
from ..filters import FILTERS
from ..query import PEOPLE_PER_PAGE, Query
from ..shared.storage.connection import Connection
from ..stats import stats
from .form import controls
from .histogram import HEIGHT, bars
from .page import query_link, render

_FIRST_REJECTED = tables.PageRequest(tables.REJECTED, limit=20)
_SORTABLE = ("user_id", "last_name", "birthdate")


def people_page(
    connection: Connection,
    cache: Cache[Any],
    states: States,
    path: str,
    parameters: MultiDict[str, str],
    query: Query,
    today: date,
) -> bytes:
    """Render the web page for a query, which was parsed from `parameters`."""
    page = users.read_users(connection, query, query.limit or PEOPLE_PER_PAGE, today)
    figures, is_filtered = stats(connection, cache, states, query.filters, today), bool(query.filters.active)
    return render(
        "people.html",
        path,
        controls=controls(parameters) if is_filtered or figures["people"] else [],
        people=page.rows,
        figures=figures,
        bars=bars(figures["ages"]),
        bar_height=HEIGHT,
        is_filtered=is_filtered,
        is_continued=query.after is not None,
        reasons=cache.get(("reasons", states["rejected"]), lambda: tables.reasons(connection)),
        rejected=tables.read_table(connection, _FIRST_REJECTED).rows,
        sort=query.order.name,
        links=_links(parameters, page.cursor),
    )


def _links(parameters: MultiDict[str, str], cursor: str | None) -> dict[str, Any]:
    others = [(name, text) for name, text in parameters.items(multi=True) if text and name != "after"]
    without_sort = [(name, text) for name, text in others if name != "sort"]
    download = [(name, text) for name, text in others if name in FILTERS or name == "sort"]
    return {
        "first": query_link(others),
        "next": query_link([*others, ("after", cursor)]) if cursor else None,
        "sort": {
            order: query_link([*without_sort, ("sort", order)])
            for column in _SORTABLE
            for order in (column, f"-{column}")
        },
        "csv": query_link([*download, ("format", "csv")]),
        "json": query_link([*download, ("format", "json")]),
    }
