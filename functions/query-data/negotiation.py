"""Content negotiation: the parameter `format`, or else `Accept`, chooses the format of a response."""

from collections.abc import Mapping
from functools import lru_cache

from werkzeug.datastructures import MIMEAccept, MultiDict
from werkzeug.http import parse_accept_header

from .formats import HTML, JSON, Format
from .parameters import Parameter, one_of
from .shared.api import ApiError, Event

Formats = Mapping[str, Format]
"""Formats by name."""


def format_parameter(formats: Formats) -> Parameter:
    return Parameter(
        ", ".join(formats),
        "response format, overrides `Accept`",
        one_of(formats),
        {"type": "string", "enum": list(formats)},
    )


def negotiate(accept: str | None, formats: Formats) -> Format:
    """Return the format that the Accept header prefers, or JSON if the request has no such header.

    Raises ApiError 406 if the header allows none of the formats.
    """
    if not accept:
        return JSON
    by_type = {fmt.media_type: fmt for fmt in formats.values()}
    best = _best_match(accept, tuple(by_type))
    if best is None:
        raise ApiError(406, "not_acceptable", f"invalid Accept: expected one of {', '.join(by_type)}")
    return by_type[best]


@lru_cache(32)  # clients send few different headers, and parsing one takes longer than most steps of a request
def _best_match(accept: str, media_types: tuple[str, ...]) -> str | None:
    accepted = parse_accept_header(accept, MIMEAccept)
    # clients may send media types with parameters, such as text/csv; header=present
    return MIMEAccept((value.partition(";")[0], quality) for value, quality in accepted).best_match(media_types)


def prefers_html(event: Event, formats: Formats) -> bool:
    """Whether the client wants a web page, by `format` or else by Accept. An invalid value of either is ignored."""
    if fmt := formats.get(event.query.get("format", "")):
        return fmt is HTML
    try:
        return negotiate(event.headers.get("Accept"), formats) is HTML
    except ApiError:
        return False


def query_parameters(event: Event, formats: Formats) -> MultiDict[str, str]:
    """Return the parameters of the query. For web pages, empty ones are dropped: a form sends one per blank field.

    For other formats an empty parameter is an error, so that a script with an unset variable does not get all users.
    """
    if not prefers_html(event, formats):
        return event.query
    return MultiDict([(name, text) for name, text in event.query.items(multi=True) if text])
