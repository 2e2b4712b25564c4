"""Content negotiation: the format of a response, by the parameter `format` or by `Accept`."""

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
    """The format that an Accept header prefers, JSON by default. Raises ApiError 406 if it allows none."""
    if not accept:
        return JSON
    by_type = {fmt.media_type: fmt for fmt in formats.values()}
    best = _best_match(accept, tuple(by_type))
    if best is None:
        raise ApiError(406, "not_acceptable", f"invalid Accept: expected one of {', '.join(by_type)}")
    return by_type[best]


@lru_cache(32)  # clients send few different ones, and parsing one takes longer than most other steps of a request
def _best_match(accept: str, media_types: tuple[str, ...]) -> str | None:
    accepted = parse_accept_header(accept, MIMEAccept)
    return MIMEAccept((kind.partition(";")[0], quality) for kind, quality in accepted).best_match(media_types)


def prefers_html(event: Event, formats: Formats) -> bool:
    """Whether the client wants a web page, by `format` or else by Accept. Invalid values of either are ignored."""
    if fmt := formats.get(event.query.get("format", "")):
        return fmt is HTML
    try:
        return negotiate(event.headers.get("Accept"), formats) is HTML
    except ApiError:
        return False


def query_parameters(event: Event, formats: Formats) -> MultiDict[str, str]:
    """The query's parameters. For web pages the empty ones are dropped: a form sends one for each blank field.

    From other clients an empty one is an error: a script whose variable is not set must not get everything.
    """
    if not prefers_html(event, formats):
        return event.query
    return MultiDict([(name, text) for name, text in event.query.items(multi=True) if text])
