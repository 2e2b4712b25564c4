"""query-data: answers questions about the roll."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

from flask import Response

from .filters import read_filters
from .rendering import json_document
from .shared import api
from .shared.storage.records import Pool
from .shared.storage.settings import RecordsSettings, load
from .users import check, json_lines


@api.handler
def handle(event: api.Event, context: object) -> Response:  # noqa: ARG001 - the template's signature
    if (route := _ROUTES.get(event.path)) is None:
        raise api.ApiError(404, "not_found", f"there is no {event.path} here: there are {' and '.join(_ROUTES)}")
    api.require_method(event, ["GET", "HEAD"])
    return route(event)


def _users(event: api.Event) -> Response:
    filters = read_filters(event.query)
    if event.method == "HEAD":  # the same errors, without the work
        _check()
        return Response(iter(()), content_type="application/json")
    return json_document(json_lines(_pool(), filters, datetime.now(UTC).date()))


def _health(_: api.Event) -> Response:
    _check()
    return api.json_response({"status": "ok"})


def _check() -> None:
    with _pool().connection() as records:
        check(records)


_ROUTES: dict[str, Callable[[api.Event], Response]] = {"/": _users, "/healthz": _health}


@cache
def _pool() -> Pool:
    """The connections, made by the first request and shared by all threads."""
    return Pool(load(RecordsSettings, os.environ))
