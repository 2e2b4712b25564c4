"""Responses: the headers that all have, bodies that are whole, and bodies that are streamed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from urllib.parse import urlencode

from flask import Response
from werkzeug.datastructures import MultiDict

from .shared.api import Event
from .shared.log import log

LONGEST_LINK = 2000
"""Characters: proxies take 4 to 64 KB of headers in all, and answer 502 to more."""

_NO_CACHE = {"Cache-Control": "private, no-cache"}  # to be kept, and asked about each time


def headers(etag: str | None = None, **others: str | None) -> dict[str, str]:
    """Headers of an answer; those that are None are left out. Names are given with underscores."""
    given = {name.replace("_", "-"): value for name, value in others.items() if value is not None}
    return _NO_CACHE | ({"ETag": f'"{etag}"'} if etag else {}) | given


def not_modified(named: Mapping[str, str]) -> Response:
    response = Response(status=304, headers=named)
    del response.headers["Content-Type"]
    return response


def whole(chunks: Iterable[bytes], content_type: str, named: Mapping[str, str]) -> Response:
    return Response(b"".join(chunks), headers=named, content_type=content_type)


def started(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks, the first one fetched: what goes wrong until then can still be told with a status."""
    first = next(chunks, b"")
    return chain([first] if first else [], chunks)


def streamed(
    event: Event, chunks: Iterator[bytes], content_type: str, named: Mapping[str, str], close: Callable[[], object]
) -> Response:
    """What goes wrong among the chunks cuts the response off, before its trailer. `close` is called in any case."""
    response = Response(_told(event, chunks), headers=named, content_type=content_type)
    response.call_on_close(close)
    return response


def next_url(query: MultiDict[str, str], cursor: str | None) -> str | None:
    """The same question from the cursor on, as a URL relative to the request's own."""
    if cursor is None:
        return None
    kept = [(name, text) for name, text in query.items(multi=True) if name != "after"]
    return "?" + urlencode([*kept, ("after", cursor)])


def link(url: str | None) -> str | None:
    """The header Link's value, RFC 8288; none for a URL that is too long for a header."""
    return f'<{url}>; rel="next"' if url and len(url) <= LONGEST_LINK else None


def _told(event: Event, chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except Exception as error:
        call_id = event.headers.get("X-Call-Id")
        log("error", "failure", code="cut_off", message=f"the answer was cut off: {error}", call_id=call_id)
        raise
