"""query-data: answers questions about the roll."""

import os
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, date, datetime
from functools import cache, partial

from flask import Response
from werkzeug.datastructures import MultiDict

from . import listings, rendering, users
from .buffers import bound_buffers
from .filters import FILTERS, make_filters
from .formats import HTML, JSON, document, wants_page
from .openapi import openapi
from .parameters import read_parameters
from .query import Query, read_query
from .settings import Settings
from .shared import api
from .shared.log import log
from .shared.process import set_up
from .shared.storage.records import Pool
from .shared.storage.settings import load
from .stats import stats
from .versions import etag, is_known, known, state

_drain = set_up()
bound_buffers()


def handle(event: api.Event, context: object) -> Response:
    started = time.perf_counter()
    response = _answer(event, context)
    response.headers["X-Content-Type-Options"] = "nosniff"
    if event.path != "/healthz":
        response.call_on_close(lambda: _log(event, response.status_code, time.perf_counter() - started))
    return response


def _refused(event: api.Event, error: api.ApiError) -> Response:
    if event.path == "/" and wants_page(event.query.get("format"), event.headers.get("Accept")):
        from . import page  # with Jinja2, which would cost a part of the start

        return page.refused(event.query, error)
    return api.error_response(event, error)


@partial(api.handler, render=_refused)
def _answer(event: api.Event, _context: object) -> Response:
    with ExitStack() as stack:
        stack.enter_context(_drain.request())
        if event.path != "/healthz":
            api.require_token(event, _settings().api_token)
        route = _route(event.path)
        api.require_method(event, ["GET", "HEAD"])
        response = route(event)
        response.call_on_close(stack.pop_all().close)  # it is in flight until it is sent
        return response


def _route(path: str) -> Callable[[api.Event], Response]:
    # The page's links begin with the function's own name, as relative ones from /function/query-data must.
    # Asked for as /function/query-data/, which looks the same from here, they come out one level deeper.
    path = re.sub("^/query-data/", "/", path)
    if (route := _ROUTES.get(path)) is not None:
        return route
    if re.fullmatch(r"/photo/[0-9]{1,18}", path):
        return _photo
    there = f"{', '.join(_ROUTES)} and /photo/<user_id>"
    raise api.ApiError(404, "not_found", f"there is no {path} here: there are {there}")


def _users(event: api.Event) -> Response:
    given = _given(event)
    query, today = read_query(given, event.headers.get("Accept")), _today()
    if query.format is HTML:
        return _page(event, given, query, today)
    headers = partial(rendering.headers, Vary="Accept", Content_Disposition=query.format.disposition)
    with _pool().connection() as records:
        if tag := known(event, records, "users", today, query):
            return rendering.not_modified(headers(tag))
        page = None if query.limit is None else users.page(records, query, query.limit, today)
        named = headers(etag(page.state if page else state(records, "users"), today, query))
        # never older than the ETag says, as it is read after the state
        count = users.count(records, query.filters, today) if query.count else None
        if count is not None:
            named["X-Total-Count"] = str(count)
        if page is None and event.method == "HEAD":  # the same errors, without the work
            users.check(records)
            return Response(iter(()), headers=named, content_type=query.format.content_type)
    if page is None:
        return _everyone(event, query, today, named, count)
    url = rendering.next_url(given, page.cursor)
    body = document(query.format, [page.lines] if page.lines else [], rendering.after_people(url, count))
    return rendering.whole(body, query.format.content_type, named | rendering.headers(Link=rendering.link(url)))


def _everyone(event: api.Event, query: Query, today: date, named: dict[str, str], count: int | None) -> Response:
    with ExitStack() as stack:
        chunks = rendering.started(stack.enter_context(users.stream(_pool(), query, today)))
        close = stack.pop_all().close
    body = document(query.format, chunks, rendering.after_people(None, count))
    return rendering.streamed(event, body, query.format.content_type, named, close)


def _given(event: api.Event) -> MultiDict[str, str]:
    """The parameters. The page's form sends an empty one for every field that is left blank: it means none.

    From anyone else it is refused, or a script whose variable isn't set would be told of everyone.
    """
    if not wants_page(event.query.get("format"), event.headers.get("Accept")):
        return event.query
    return MultiDict([(name, text) for name, text in event.query.items(multi=True) if text])


def _page(event: api.Event, given: MultiDict[str, str], query: Query, today: date) -> Response:
    from . import page

    with _pool().connection() as records:
        shown = state(records, "users", "rejected", "runs")
        tag = etag(shown, today, page.VERSION, list(given.items(multi=True)))
        named = rendering.headers(tag, Vary="Accept") | page.POLICY
        if is_known(event, tag):
            return rendering.not_modified(named)
        return rendering.whole([page.people(records, given, query, today)], HTML.content_type, named)


def _stats(event: api.Event) -> Response:
    filters, today = make_filters(read_parameters(FILTERS, event.query)), _today()
    with _pool().connection() as records:
        tag = etag(state(records, "users", "rejected", "runs"), today, filters)
        if is_known(event, tag):
            return rendering.not_modified(rendering.headers(tag))
        return api.json_response(stats(records, filters, today), headers=rendering.headers(tag))


def _listing(listing: listings.Listing) -> Callable[[api.Event], Response]:
    def answer(event: api.Event) -> Response:
        part = listings.read_part(listing, event.query)
        with _pool().connection() as records:
            if tag := known(event, records, listing.table, part):
                return rendering.not_modified(rendering.headers(tag))
            page = listings.page(records, part)
        url = rendering.next_url(event.query, page.cursor)
        body = document(JSON, [page.lines] if page.lines else [], rendering.after_people(url))
        named = rendering.headers(etag(page.state, part), Link=rendering.link(url))
        return rendering.whole(body, JSON.content_type, named)

    return answer


def _photo(event: api.Event) -> Response:
    from . import photos  # with the S3 client, which would cost most of the start

    read_parameters({}, event.query)
    user_id, bucket = event.path.rpartition("/")[2], _settings().source_bucket
    with _pool().connection() as records:
        key = photos.find(records, user_id, bucket)
    with ExitStack() as stack:
        photo = stack.enter_context(photos.opened(photos.client(_settings()), bucket, key))
        named = rendering.headers(photo.etag, Content_Length=str(photo.size))
        if is_known(event, photo.etag):
            return rendering.not_modified(rendering.headers(photo.etag))
        if event.method == "HEAD":
            return Response(headers=named, content_type=photos.media_type(key))
        chunks = rendering.started(photo.chunks)
        close = stack.pop_all().close
    return rendering.streamed(event, chunks, photos.media_type(key), named, close)


def _openapi(event: api.Event) -> Response:
    read_parameters({}, event.query)
    return api.json_response(openapi())


def _health(event: api.Event) -> Response:
    read_parameters({}, event.query)
    with _pool().connection() as records:
        users.check(records)
    return api.json_response({"status": "ok"})


_ROUTES: dict[str, Callable[[api.Event], Response]] = {
    "/": _users,
    "/stats": _stats,
    "/rejected": _listing(listings.REJECTED),
    "/runs": _listing(listings.RUNS),
    "/openapi.json": _openapi,
    "/healthz": _health,
}


def _log(event: api.Event, status: int, seconds: float) -> None:
    log(
        "info",
        "request",
        method=event.method,
        path=event.path,  # without the query: names are nobody's business
        status=status,
        seconds=round(seconds, 4),
        call_id=event.headers.get("X-Call-Id"),
    )


def _today() -> date:
    return datetime.now(UTC).date()


@cache
def _settings() -> Settings:
    return load(Settings, os.environ)


@cache
def _pool() -> Pool:
    """The connections, made by the first request and shared by all threads."""
    return Pool(_settings())
