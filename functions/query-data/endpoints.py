"""The endpoints: each reads its parameters, executes, and renders."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime
from functools import partial

from flask import Response
from werkzeug.datastructures import MultiDict

from . import changes as feed
from . import listings, photos, rendering, users
from . import metrics as gauges
from . import openapi as description
from . import stats as figures
from .application import Application
from .filters import FILTERS, make_filters
from .formats import FORMATS, HTML, JSON, LISTING_FORMATS, Format, Trailer, document, prefers_html
from .parameters import read_parameters
from .query import Query, read_query
from .shared import api
from .shared.process import MEBIBYTE
from .shared.storage.records import Connection
from .shared.version import VERSION
from .versions import State, etag, is_known, known, state, states

Endpoint = Callable[[Application, api.Event], Response]


def people(application: Application, event: api.Event) -> Response:
    """People in any format: a page of them, or a stream of all."""
    parameters = _parameters(event, FORMATS)
    query, today = read_query(parameters, event.headers.get("Accept")), _today()
    if query.format is HTML:
        return _html(application, event, parameters, query, today)
    headers = partial(rendering.headers, Vary="Accept", Content_Disposition=query.format.disposition)
    with application.pool.connection() as connection:
        if tag := known(event, connection, "users", today, query):
            return rendering.not_modified(headers(tag))
        page = None if query.limit is None else users.page(connection, query, query.limit, today)
        shown = page.state if page else state(connection, "users")
        named = headers(etag(shown, today, query))
        count = _count(application, connection, query, shown, today) if query.count else None
        if count is not None:
            named["X-Total-Count"] = str(count)
        if page is None and event.method == "HEAD":  # the same errors, without the work
            users.check(connection)
            return Response(iter(()), headers=named, content_type=query.format.content_type)
    if page is None:
        return _stream(application, event, query, today, named, count)
    url = rendering.next_url(parameters, page.cursor)
    body = document(query.format, [page.lines] if page.lines else [], lambda: Trailer(url, count))
    return rendering.whole(body, query.format.content_type, named | rendering.headers(Link=rendering.link(url)))


def _count(application: Application, connection: Connection, query: Query, shown: State, today: date) -> int:
    """How many people there are in all. Never older than the state that is shown, as it is read after it."""
    key = ("count", tuple(shown), query.filters, today)
    count: int = application.cache.get(key, lambda: users.count(connection, query.filters, today))
    return count


def _stream(
    application: Application, event: api.Event, query: Query, today: date, headers: dict[str, str], count: int | None
) -> Response:
    stream = users.Stream(application.pool, query, today, application.settings.stream_deadline)
    with ExitStack() as stack:
        stack.enter_context(application.streams.place())
        lines = iter(stream)
        stack.callback(lines.close)
        chunks = rendering.started(lines)
        close = stack.pop_all().close
    body = document(query.format, chunks, lambda: Trailer(rendering.next_url(event.query, stream.cursor), count))
    return rendering.streamed(event, body, query.format.content_type, headers, close)


def _parameters(event: api.Event, formats: Mapping[str, Format]) -> MultiDict[str, str]:
    """The parameters. A page's form sends an empty one for every field that is left blank: it means none.

    From anyone else it is an error, or a script whose variable isn't set would get everyone.
    """
    if not prefers_html(event.query.get("format"), event.headers.get("Accept"), formats):
        return event.query
    return MultiDict([(name, text) for name, text in event.query.items(multi=True) if text])


def _html(
    application: Application, event: api.Event, parameters: MultiDict[str, str], query: Query, today: date
) -> Response:
    from .web.page import SECURITY_HEADERS, TEMPLATES_VERSION
    from .web.people import people_page

    with application.pool.connection() as connection:
        shown = states(connection)
        tag = etag(list(shown.values()), today, TEMPLATES_VERSION, list(parameters.items(multi=True)))
        headers = rendering.headers(tag, Vary="Accept") | SECURITY_HEADERS
        if is_known(event, tag):
            return rendering.not_modified(headers)
        render = partial(people_page, connection, application.cache, shown, event.path, parameters, query, today)
        return rendering.whole([application.pages.get((tag, event.path), render)], HTML.content_type, headers)


def stats(application: Application, event: api.Event) -> Response:
    filters, today = make_filters(read_parameters(FILTERS, event.query)), _today()
    with application.pool.connection() as connection:
        shown = states(connection)
        tag = etag(list(shown.values()), today, filters)
        if is_known(event, tag):
            return rendering.not_modified(rendering.headers(tag))
        content = figures.stats(connection, application.cache, shown, filters, today)
        return api.json_response(content, headers=rendering.headers(tag))


def rejected(application: Application, event: api.Event) -> Response:
    return _listing(application, event, listings.REJECTED)


def runs(application: Application, event: api.Event) -> Response:
    return _listing(application, event, listings.RUNS)


def _listing(application: Application, event: api.Event, listing: listings.Listing) -> Response:
    parameters = _parameters(event, LISTING_FORMATS)
    request = listings.parse_page_request(listing, parameters, event.headers.get("Accept"))
    if request.format is HTML:
        return _listing_html(application, event, parameters, request)
    with application.pool.connection() as connection:
        if tag := known(event, connection, listing.table, request):
            return rendering.not_modified(rendering.headers(tag, Vary="Accept"))
        page = listings.page(connection, request)
    url = rendering.next_url(event.query, page.cursor)
    body = document(JSON, [page.lines] if page.lines else [], lambda: Trailer(url))
    headers = rendering.headers(etag(page.state, request), Vary="Accept", Link=rendering.link(url))
    return rendering.whole(body, JSON.content_type, headers)


def _listing_html(
    application: Application, event: api.Event, parameters: MultiDict[str, str], request: listings.PageRequest
) -> Response:
    from .web.listing import listing_page
    from .web.page import SECURITY_HEADERS, TEMPLATES_VERSION

    table, query = request.listing.table, [TEMPLATES_VERSION, list(parameters.items(multi=True))]
    headers = rendering.headers(Vary="Accept") | SECURITY_HEADERS
    with application.pool.connection() as connection:
        if tag := known(event, connection, table, query):
            return rendering.not_modified(headers | rendering.headers(tag))
        page = listings.page(connection, request)
    body = listing_page(f"{table}.html", event.path, parameters, page)
    return rendering.whole([body], HTML.content_type, headers | rendering.headers(etag(page.state, query)))


def changes(application: Application, event: api.Event) -> Response:
    request = feed.parse_page_request(event.query, event.headers.get("Accept"))
    with application.pool.connection() as connection:
        page = feed.read_changes(connection, request)
    url = rendering.next_url(event.query, str(page.cursor))
    body = document(request.format, [page.lines] if page.lines else [], lambda: Trailer(url))
    headers = rendering.headers(Vary="Accept", Link=rendering.link(url))
    return rendering.whole(body, request.format.content_type, headers)


def photo(user_id: str, application: Application, event: api.Event) -> Response:
    read_parameters({}, event.query)
    bucket = application.settings.source_bucket
    with application.pool.connection() as connection:
        key = photos.find(connection, user_id, bucket)
    with ExitStack() as stack:
        opened = stack.enter_context(photos.opened(application.objects.get(), bucket, key))
        headers = rendering.headers(opened.etag, Content_Length=str(opened.size))
        if is_known(event, opened.etag):
            return rendering.not_modified(rendering.headers(opened.etag))
        if event.method == "HEAD":
            return Response(headers=headers, content_type=photos.media_type(key))
        if opened.size <= MEBIBYTE:  # it waits in the server's buffer for a slow client, and holds no thread
            return rendering.whole(opened.chunks, photos.media_type(key), headers)
        stack.enter_context(application.photos.place())
        chunks = rendering.started(opened.chunks)
        close = stack.pop_all().close
    return rendering.streamed(event, chunks, photos.media_type(key), headers, close)


def metrics(application: Application, event: api.Event) -> Response:
    read_parameters({}, event.query)
    with application.pool.connection() as connection:
        body = gauges.metrics(connection)
    return Response(body, headers=rendering.headers(), content_type=gauges.CONTENT_TYPE)


def openapi(application: Application, event: api.Event) -> Response:
    read_parameters({}, event.query)
    return api.json_response(description.openapi(requires_token=application.settings.auth == "token"))


def health(application: Application, event: api.Event) -> Response:
    read_parameters({}, event.query)
    with application.pool.connection() as connection:
        users.check(connection)
    return api.json_response({"status": "ok", "version": VERSION})


def _today() -> date:
    return datetime.now(UTC).date()
