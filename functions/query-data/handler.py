"""query-data: serves the users over HTTP, read-only."""

import os
import re
import time
from functools import partial

from flask import Response

from . import endpoints
from .application import THREADS, Application
from .endpoints import Endpoint
from .formats import FORMATS, TABLE_FORMATS
from .negotiation import prefers_html
from .paths import normalize
from .settings import Settings
from .shared import api
from .shared.access import conceal, require_access
from .shared.bulkhead import Bulkhead
from .shared.lazy import Lazy
from .shared.log import log
from .shared.process import set_up
from .shared.quoting import truncate
from .shared.storage.settings import load
from .shared.user_ids import USER_ID_PATTERN

set_up(threads=THREADS, max_body=64 * 1024)  # no request needs a body; bodies below this limit are ignored
_application = Lazy(lambda: Application(load(Settings, os.environ)))

_ENDPOINTS: dict[str, Endpoint] = {
    "/": endpoints.get_users,
    "/stats": endpoints.get_stats,
    "/changes": endpoints.get_changes,
    "/rejected": endpoints.get_rejected,
    "/runs": endpoints.get_runs,
    "/metrics": endpoints.get_metrics,
    "/openapi.json": endpoints.get_openapi,
    "/healthz": endpoints.get_health,
}
# The paths that have a web page; a 404 on any other path has one too.
_FORMATS_BY_PATH = {"/": FORMATS, "/rejected": TABLE_FORMATS, "/runs": TABLE_FORMATS}
_PHOTO = re.compile(f"/photo/({USER_ID_PATTERN})")


def handle(event: api.Event, context: object) -> Response:
    started_at = time.perf_counter()
    response = _respond(event, context)
    response.headers["X-Content-Type-Options"] = "nosniff"
    if normalize(event.path) != "/healthz":
        response.call_on_close(lambda: _log(event, response.status_code, time.perf_counter() - started_at))
    return response


def _render_error(event: api.Event, error: api.ApiError) -> Response:
    error = conceal(event, error, lambda: _application.get().settings)
    formats = TABLE_FORMATS if error.status == 404 else _FORMATS_BY_PATH.get(normalize(event.path), {})
    if prefers_html(event, formats):
        from .web.errors import render_error

        return render_error(event, error)
    return api.error_response(event, error)


@partial(api.handle_errors, render=_render_error)
def _respond(event: api.Event, _context: object) -> Response:
    application, path = _application.get(), normalize(event.path)
    if path != "/healthz":
        require_access(event, application.settings)
    endpoint = _route(path)
    api.require_method(event, ["GET", "HEAD"])
    with _bulkhead(application, path).slot():
        return endpoint(application, event)


def _bulkhead(application: Application, path: str) -> Bulkhead:
    if path == "/healthz":
        return application.health
    return application.photos if _PHOTO.fullmatch(path) else application.requests


def _route(path: str) -> Endpoint:
    if photo := _PHOTO.fullmatch(path):
        return partial(endpoints.get_photo, photo[1])
    if path not in _ENDPOINTS:
        expected = f"{', '.join(_ENDPOINTS)}, /photo/<user_id>"
        raise api.ApiError(404, "not_found", f"unknown path {truncate(path)}; expected one of {expected}")
    return _ENDPOINTS[path]


def _log(event: api.Event, status: int, seconds: float) -> None:
    log(
        "info",
        "request",
        method=event.method,
        path=normalize(event.path),  # without the query, which may contain personal data
        status=status,
        seconds=round(seconds, 4),
        call_id=event.headers.get("X-Call-Id"),
    )
