"""process-data: brings the roll up to date with the bucket."""

import os
from functools import cache

from flask import Response

from .pipeline import run
from .request import read_request
from .settings import Settings
from .shared import api
from .shared.storage.objects import Objects
from .shared.storage.settings import load


@api.handler
def handle(event: api.Event, _context: object) -> Response:
    request = read_request(event)
    settings, objects = _stores()
    return api.json_response(run(settings, objects, request))


@cache
def _stores() -> tuple[Settings, Objects]:
    """The settings and the S3 client, made by the first request and shared by all threads."""
    settings = load(Settings, os.environ)
    return settings, Objects(settings, connections=settings.fetch_threads)
