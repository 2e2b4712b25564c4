"""Responses: headers, bodies with a trailer, and streams."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from urllib.parse import urlencode

from flask import Response
from werkzeug.datastructures import MultiDict

from .formats import COLUMNS, CSV, JSON, NDJSON, Format
from .shared.api import Event
from .shared.log import log

MAX_LINK_LENGTH = 2000
"""The maximum length of a URL in the header Link. Proxies accept 4 to 64 KB of headers, and return 502 for more."""

_NO_CACHE = {"Cache-Control": "private, no-cache"}  # caches have to revalidate

NO_STORE = {"Cache-Control": "no-store"}
"""For streams of users: a cache could store an interrupted one with its ETag, and a 304 would later confirm it."""


@dataclass(frozen=True)
class Trailer:
    """The end of a response. A response without it was interrupted.

    `next` is the URL of the next page, relative to the request's URL; `count` is the total number of results.
    """

    next: str | None
    count: int | None = None

    @property
    def json(self) -> str:
        """The last members of a JSON object, without its braces."""
        return json.dumps({"next": self.next} | ({} if self.count is None else {"count": self.count}))[1:-1]


def make_headers(etag: str | None = None, **headers: str | None) -> dict[str, str]:
    """Return these headers, Cache-Control and the ETag. Underscores in names stand for hyphens; None omits a header."""
    present = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    return _NO_CACHE | ({"ETag": f'"{etag}"'} if etag else {}) | present


def format_headers(fmt: Format, etag: str | None = None, count: int | None = None) -> dict[str, str]:
    """Return the headers of a response whose format was negotiated."""
    total = None if count is None else str(count)
    return make_headers(etag, Vary="Accept", Content_Disposition=fmt.disposition, X_Total_Count=total)


def not_modified(headers: dict[str, str]) -> Response:
    return Response(status=304, headers=headers)  # werkzeug sends no Content-Type


def render_page(
    lines: bytes, cursor: str | None, fmt: Format, query: MultiDict[str, str],
    *, etag: str | None = None, count: int | None = None,
) -> Response:  # fmt: skip
    """Return a page of results. `lines` are whole lines; `cursor` is that of the next page, None on the last one."""
    url = next_url(query, cursor)
    body = b"".join(_document(fmt, [lines] if lines else [], lambda: Trailer(url, count)))
    headers = format_headers(fmt, etag, count) | make_headers(Link=_link(url))
    return Response(body, headers=headers, content_type=fmt.content_type)


def render_stream(
    event: Event, fmt: Format, chunks: Iterator[bytes], trailer: Callable[[], Trailer], headers: dict[str, str],
    resources: ExitStack,
) -> Response:  # fmt: skip
    """Stream chunks of whole lines. An error after the first chunk interrupts the response before its trailer.

    The first chunk is fetched before this returns. The response then owns `resources`, and closes them at its end.
    """
    return _stream(event, _document(fmt, _prefetch_first(chunks), trailer), fmt.content_type, headers, resources)


def render_binary(
    event: Event, chunks: Iterator[bytes], content_type: str, headers: dict[str, str], resources: ExitStack
) -> Response:
    """Stream chunks without a trailer; otherwise like `render_stream`."""
    return _stream(event, _prefetch_first(chunks), content_type, headers, resources)


def _stream(
    event: Event, chunks: Iterator[bytes], content_type: str, headers: dict[str, str], resources: ExitStack
) -> Response:
    response = Response(_log_interruption(event, chunks), headers=headers, content_type=content_type)
    response.call_on_close(resources.pop_all().close)
    return response


def _prefetch_first(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Fetch the first chunk now, so that an error before it becomes an error response."""
    first = next(chunks, b"")
    return chain([first] if first else [], chunks)


def next_url(query: MultiDict[str, str], cursor: str | None) -> str | None:
    """Return the URL of the same query after the cursor, relative to the request's URL."""
    if cursor is None:
        return None
    parameters = [(name, text) for name, text in query.items(multi=True) if name != "after"]
    return "?" + urlencode([*parameters, ("after", cursor)])


def _link(url: str | None) -> str | None:
    """Return the value of the header Link (RFC 8288), None if there is no URL or it is too long for a header."""
    return f'<{url}>; rel="next"' if url and len(url) <= MAX_LINK_LENGTH else None


def _document(fmt: Format, chunks: Iterable[bytes], trailer: Callable[[], Trailer]) -> Iterator[bytes]:
    """Yield the whole body. `chunks` consist of whole lines; `trailer` is called after the last chunk."""
    if fmt is CSV:
        yield b"\xef\xbb\xbf" + ",".join(COLUMNS).encode() + b"\n"  # the BOM tells spreadsheets to read UTF-8
    if fmt is JSON:
        yield b'{"result": ['
        separator = b""
        for chunk in chunks:
            yield separator + chunk[:-1].replace(b"\n", b",\n")
            separator = b",\n"
        yield f"], {trailer().json}}}\n".encode()
        return
    yield from chunks
    if fmt is NDJSON:
        yield f"{{{trailer().json}}}\n".encode()
    else:
        url = trailer().next
        yield f"#next {url}\n".encode() if url else b"#end\n"


def _log_interruption(event: Event, chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except Exception as error:
        call_id = event.headers.get("X-Call-Id")
        log("error", "failure", code="interrupted", message=f"the response was interrupted: {error}", call_id=call_id)
        raise
