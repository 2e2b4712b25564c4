"""The page: what a person sees at `/`, made of what programs get.

Its links are relative, so that they hold behind any prefix: a query alone stays where it is, and a path
begins with the function's own name, as the page's own path ends with that.
"""

import json
from base64 import b64encode
from datetime import date, datetime
from hashlib import sha256
from math import floor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flask import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from werkzeug.datastructures import MultiDict

from . import listings, users
from .cache import Cache
from .filters import FILTERS, Filters
from .form import PEOPLE_A_PAGE, controls
from .formats import HTML
from .histogram import HEIGHT, bars
from .query import Query
from .shared.api import ApiError
from .shared.storage.records import Connection
from .stats import stats
from .versions import States

REJECTED_SHOWN = 20

_TEMPLATES = Path(__file__).parent / "templates"
_STYLE = (_TEMPLATES / "style.css").read_text(encoding="utf-8")

VERSION = sha256(b"".join(path.read_bytes() for path in sorted(_TEMPLATES.iterdir()))).hexdigest()
"""Changes with the templates, as the page does."""

_POLICY = {
    "default-src": "'none'",
    "img-src": "'self' data:",  # the photos, and the tab's icon
    "style-src": f"'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}

POLICY = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Referrer-Policy": "no-referrer",  # the query may hold names
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every page."""


def people(
    records: Connection, cache: Cache[Any], states: States, asked: MultiDict[str, str], query: Query, today: date
) -> bytes:
    """The people that `query` asks for; `asked` is what it was read from."""
    page = users.page(records, query, query.limit or PEOPLE_A_PAGE, today)
    figures, filtered = stats(records, cache, states, query.filters, today), query.filters != Filters()
    return _render(
        "people.html",
        controls=controls(asked) if filtered or figures["people"] else [],
        people=[json.loads(line) for line in page.lines.splitlines()],
        figures=figures,
        bars=bars(figures["ages"]),
        bar_height=HEIGHT,
        filtered=filtered,
        continued=query.behind is not None,
        reasons=cache.get(("reasons", states["rejected"]), lambda: listings.reasons(records)),
        rejected=_rejected(records),
        sort=query.order.name,
        links=_links(asked, page.cursor),
    )


def refused(asked: MultiDict[str, str], error: ApiError) -> Response:
    """The error, with the form to put it right when the question was wrong."""
    wrong = error.detail.get("parameter")
    body = _render(
        "refused.html",
        controls=controls(asked, str(wrong), error.message) if error.status == 400 else [],
        filtered=True,
        error=error,
    )
    return Response(body, error.status, error.headers | POLICY, content_type=HTML.content_type)


def _rejected(records: Connection) -> list[dict[str, Any]]:
    lines = listings.page(records, listings.Part(listings.REJECTED, limit=REJECTED_SHOWN)).lines
    return [json.loads(line) for line in lines.splitlines()]


def _links(asked: MultiDict[str, str], cursor: str | None) -> dict[str, Any]:
    kept = [(name, text) for name, text in asked.items(multi=True) if text and name != "after"]
    same = [(name, text) for name, text in kept if name not in ("sort", "count")]
    result = [(name, text) for name, text in kept if name in FILTERS or name == "sort"]
    return {
        "first": _link(kept),
        "next": _link([*kept, ("after", cursor)]) if cursor else None,
        "sort": {name: _link([*same, ("sort", name)]) for one in _SORTED for name in (one, f"-{one}")},
        "csv": _link([*result, ("format", "csv")]),
        "json": _link([*result, ("format", "json")]),
    }


_SORTED = ("user_id", "last_name", "birthdate")


def _link(parameters: list[tuple[str, str]]) -> str:
    return f"?{urlencode(parameters)}"


def _render(template: str, **content: Any) -> bytes:
    return _environment.get_template(template).render(content).encode()


def _tenths(years: float) -> str:
    """An age to a tenth of a year, never more than it is: nobody seems old enough who isn't."""
    return f"{floor(years * 10) / 10:.1f}"


def _day(text: str) -> str:
    day = date.fromisoformat(text)
    return f"{day.day} {day:%b %Y}"


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


_environment = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals["style"] = _STYLE
_environment.filters |= {"tenths": _tenths, "day": _day, "moment": _moment, "grouped": "{:,}".format}
