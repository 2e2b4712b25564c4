"""The endpoints: each returns the response of one path."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, date, datetime

from flask import Response

from . import changes, metrics, photos, rendering, stats, tables, users
from .application import Application
from .etags import State, make_etag, matches, matching_etag, read_state, read_states
from .filters import FILTERS, make_filters
from .formats import FORMATS, HTML, JSON, TABLE_FORMATS
from .negotiation import query_parameters
from .parameters import parse_parameters
from .query import Query, parse_query
from .shared import api
from .shared.process import MEBIBYTE
from .shared.storage.connection import Connection
from .shared.version import VERSION

Endpoint = Callable[[Application, api.Event], Response]


def get_users(application: Application, event: api.Event) -> Response:
    """Return a page of the matching users, or a stream of all of them."""
    query, today = parse_query(event), _today()
    if query.format is HTML:
        return _get_users_html(application, event, query, today)
    if query.limit is None:
        return _stream_users(application, event, query, today)
    with application.connection() as connection:
        if etag := matching_etag(event, connection, "users", today, query):
            return rendering.not_modified(rendering.format_headers(query.format, etag))
        page = users.read_users(connection, query, query.limit, today)
        count = _count(application, connection, query, page.state, today)
    etag = make_etag(page.state, today, query)
    return rendering.render_page(page.lines, page.cursor, query.format, event.query, etag=etag, count=count)


def _stream_users(application: Application, event: api.Event, query: Query, today: date) -> Response:
    with application.connection() as connection:
        if etag := matching_etag(event, connection, "users", today, query):
            return rendering.not_modified(rendering.format_headers(query.format, etag))
        state = read_state(connection, "users")
        count = _count(application, connection, query, state, today)
        headers = rendering.format_headers(query.format, make_etag(state, today, query), count) | rendering.NO_STORE
        if event.method == "HEAD":  # reads no users, but raises SchemaMissing as GET would
            users.check(connection)
            return Response(iter(()), headers=headers, content_type=query.format.content_type)
    stream = users.Stream(application, query, today)

    def trailer() -> rendering.Trailer:
        return rendering.Trailer(rendering.next_url(event.query, stream.cursor), count)

    with ExitStack() as resources:
        resources.enter_context(application.streams.slot())
        chunks = resources.enter_context(closing(iter(stream)))
        return rendering.render_stream(event, query.format, chunks, trailer, headers, resources)


def _count(application: Application, connection: Connection, query: Query, state: State, today: date) -> int | None:
    """Return the number of users that match the filters, or None if it was not requested.

    `state` is read before the users are counted, so a cached count is never older than the state in its key.
    """
    if not query.count:
        return None
    key = ("count", tuple(state), query.filters, today)
    count: int = application.cache.get(key, lambda: users.count(connection, query.filters, today))
    return count


def _get_users_html(application: Application, event: api.Event, query: Query, today: date) -> Response:
    from .web import page as web_page  # loads the templates, which only web pages need
    from .web.people import people_page

    parameters = query_parameters(event, FORMATS)
    with application.connection() as connection:
        states = read_states(connection)
        etag = make_etag(list(states.values()), today, web_page.TEMPLATES_VERSION, list(parameters.items(multi=True)))
        if matches(event, etag):
            return rendering.not_modified(web_page.headers(etag))
        body = application.pages.get(
            (etag, event.path),
            lambda: people_page(connection, application.cache, states, event.path, parameters, query, today),
        )
    return web_page.html_response(body, etag)


def get_stats(application: Application, event: api.Event) -> Response:
    filters, today = make_filters(parse_parameters(FILTERS, event.query)), _today()
    with application.connection() as connection:
        states = read_states(connection)
        etag = make_etag(list(states.values()), today, filters)
        if matches(event, etag):
            return rendering.not_modified(rendering.make_headers(etag))
        content = stats.stats(connection, application.cache, states, filters, today)
    return api.json_response(content, headers=rendering.make_headers(etag))


def get_rejected(application: Application, event: api.Event) -> Response:
    return _get_table(application, event, tables.REJECTED)


def get_runs(application: Application, event: api.Event) -> Response:
    return _get_table(application, event, tables.RUNS)


def _get_table(application: Application, event: api.Event, table: tables.Table) -> Response:
    request = tables.parse_page_request(table, event)
    if request.format is HTML:
        return _get_table_html(application, event, request)
    with application.connection() as connection:
        if etag := matching_etag(event, connection, table.name, request):
            return rendering.not_modified(rendering.format_headers(JSON, etag))
        page = tables.read_table(connection, request)
    return rendering.render_page(page.lines, page.cursor, JSON, event.query, etag=make_etag(page.state, request))


def _get_table_html(application: Application, event: api.Event, request: tables.PageRequest) -> Response:
    from .web import page as web_page
    from .web.table import table_page

    parameters = query_parameters(event, TABLE_FORMATS)
    name, inputs = request.table.name, [web_page.TEMPLATES_VERSION, list(parameters.items(multi=True))]
    with application.connection() as connection:
        if etag := matching_etag(event, connection, name, inputs):
            return rendering.not_modified(web_page.headers(etag))
        page = tables.read_table(connection, request)
    body = table_page(f"{name}.html", event.path, parameters, page)
    return web_page.html_response(body, make_etag(page.state, inputs))


def get_changes(application: Application, event: api.Event) -> Response:
    request = changes.parse_changes_request(event)
    with application.connection() as connection:
        page = changes.read_changes(connection, request)
    return rendering.render_page(page.lines, str(page.cursor), request.format, event.query)


def get_photo(user_id: str, application: Application, event: api.Event) -> Response:
    parse_parameters({}, event.query)
    bucket = application.settings.source_bucket
    with application.connection() as connection:
        key = photos.find_photo(connection, user_id, bucket)
    objects, content_type = application.objects.get(), photos.media_type(key)
    with photos.reading(key), ExitStack() as resources:
        if event.method == "HEAD" or "If-None-Match" in event.headers:
            etag, size = objects.stat(bucket, key)
            if matches(event, etag):
                return rendering.not_modified(rendering.make_headers(etag))
            if event.method == "HEAD":
                return Response(headers=_photo_headers(etag, size), content_type=content_type)
        photo = resources.enter_context(objects.stream(bucket, key))
        headers = _photo_headers(photo.etag, photo.size)
        if photo.size <= MEBIBYTE:  # fits the server's output buffer, so a slow client blocks no thread
            return Response(b"".join(photo.chunks), headers=headers, content_type=content_type)
        resources.enter_context(application.large_photos.slot())
        return rendering.render_binary(event, photo.chunks, content_type, headers, resources)


def _photo_headers(etag: str, size: int) -> dict[str, str]:
    return rendering.make_headers(etag, Content_Length=str(size))


def get_metrics(application: Application, event: api.Event) -> Response:
    parse_parameters({}, event.query)
    with application.connection() as connection:
        body = metrics.metrics(connection)
    return Response(body, headers=rendering.make_headers(), content_type=metrics.CONTENT_TYPE)


def get_openapi(application: Application, event: api.Event) -> Response:
    from . import openapi  # builds the schemas, which only this path needs

    parse_parameters({}, event.query)
    return api.json_response(openapi.openapi(requires_token=application.settings.auth == "token"))


def get_health(application: Application, event: api.Event) -> Response:
    parse_parameters({}, event.query)
    with application.connection() as connection:
        users.check(connection)
    return api.json_response({"status": "ok", "version": VERSION})


def _today() -> date:
    return datetime.now(UTC).date()
