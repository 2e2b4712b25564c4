"""query-data: answers questions about the roll."""

import os
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
def handle(event: api.Event, context: object) -> Response:
    if event.path not in _ROUTES:
        raise api.ApiError(404, "not_found", f"there is no {event.path} here: {', '.join(_ROUTES)} are")
    api.require_method(event, ["GET", "HEAD"])
    return _ROUTES[event.path](event)


def _users(event: api.Event) -> Response:
    filters = read_filters(event.query)
    if event.method == "HEAD":
        return _healthy()
    return json_document(json_lines(_pool(), filters, datetime.now(UTC).date()))
