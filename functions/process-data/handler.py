"""process-data: brings the roll up to date with the bucket."""

import gc
import os
from functools import cache

from flask import Response

from .deadline import Deadline
from .fan_out import fan_out
from .pipeline import Run
from .request import read_request
from .runs import AlreadyRunning
from .settings import Settings
from .shared import api
from .shared.drain import Drain
from .shared.log import log
from .shared.storage.objects import Objects
from .shared.storage.settings import load

_drain = Drain().on_sigterm()
gc.freeze()  # what was imported stays: looking through it again and again took a fifth of a listing


@api.handler
def handle(event: api.Event, _context: object) -> Response:
    settings, objects = _stores()
    if event.body.strip() or event.query:  # cron-connector can send neither, nor a token
        api.require_token(event, settings.api_token)
    request = read_request(event, settings.source_bucket)
    if request.fan_out:
        token = {name: value for name, value in event.headers.items() if name == "Authorization"}
        return api.json_response({"status": "queued", "runs": fan_out(settings.gateway_url, token)}, 202)
    with _drain.request():
        run = Run(settings, objects, request, Deadline(settings.run_deadline, _drain.stopping))
        try:
            answer = run.answer()
        except AlreadyRunning:
            raise api.ApiError(
                409, "already_running", "the same run is under way", headers={"Retry-After": api.RETRY_AFTER}
            ) from None
    _log(answer, run, request.call_id)
    return api.json_response(answer)


def _log(answer: dict[str, object], run: Run, call_id: str | None) -> None:
    told = {name: value for name, value in answer.items() if name != "rejections"}
    log("info", "run", call_id=call_id, **told)
    for one in run.tally.refused:
        log(
            "warning",
            "rejection",
            call_id=call_id,
            object=one.object,
            line=one.line,
            code=one.code,
            message=one.message,
        )
    for failed in run.tally.failed:
        log("warning", "unreadable", call_id=call_id, object=failed.key, message=str(failed.error))


@cache
def _stores() -> tuple[Settings, Objects]:
    """The settings and the S3 client, made by the first request and shared by all threads."""
    settings = load(Settings, os.environ)
    return settings, Objects(settings, connections=settings.fetch_threads)
