"""process-data: synchronises `users` with the source bucket."""

import os
from functools import partial
from typing import Any

from flask import Response

from .application import MAX_ANONYMOUS, MAX_REQUESTS, Application
from .continuation import NotQueued, queue_run
from .erase import EraseRun
from .request import Request, parse_request
from .run import Run
from .scan import SourceEmpty
from .segments import next_tick
from .settings import Settings
from .shared import api
from .shared.access import conceal, has_access, require_access
from .shared.lazy import Lazy
from .shared.log import log
from .shared.process import MEBIBYTE, set_up
from .shared.storage.settings import load

_THREADS = MAX_REQUESTS + MAX_ANONYMOUS + 4  # 4 more, for error responses while all slots are taken
# A body over 1 MiB gets a JSON error from `parse_request`. waitress itself rejects one of 4 MiB or more.
_stopping = set_up(threads=_THREADS, max_body=4 * MEBIBYTE)
_application = Lazy(lambda: Application(load(Settings, os.environ), _stopping))


def _render_error(event: api.Event, error: api.ApiError) -> Response:
    return api.error_response(event, conceal(event, error, lambda: _application.get().settings))


@partial(api.handle_errors, render=_render_error)
def handle(event: api.Event, _context: object) -> Response:
    application = _application.get()
    is_anonymous = not has_access(event, application.settings)
    # a request without body, query and path, such as cron-connector's, needs no token
    if event.body.strip() or event.query or event.path.strip("/"):
        require_access(event, application.settings)
    request = parse_request(event, application.settings.source_bucket)
    with (application.anonymous if is_anonymous else application.requests).slot():
        if request.fan_out:
            return _fan_out(application, request)
        summary = _run(application, request)
    if is_anonymous:
        summary = {name: summary[name] for name in ("status", "run_id")}
    return api.json_response(summary)


def _run(application: Application, request: Request) -> dict[str, Any]:
    run = EraseRun(application, request) if request.erase else Run(application, request)
    try:
        summary = run.execute()
    except SourceEmpty as error:
        message = f"{error}; if that is intended, confirm it with POST ?accept_empty=1"
        raise api.ApiError(503, "source_empty", message) from error
    finally:
        _log_problems(run, request)
    log("info", "run", call_id=request.call_id, **run.log_fields)
    return summary


def _fan_out(application: Application, request: Request) -> Response:
    """Queue `request.fan_out` runs, which share the work across the replicas."""
    with application.pool.connection() as connection:
        since = next_tick(connection)
    calls: list[str] = []
    try:
        for _ in range(request.fan_out):
            calls.append(queue_run(application.settings, since, accept_empty=request.accept_empty))  # noqa: PERF401
    except NotQueued:  # if some runs were queued, they do all the work
        if not calls:
            raise
    return api.json_response({"status": "queued", "runs": [{"call_id": call_id} for call_id in calls]}, 202)


def _log_problems(run: Run, request: Request) -> None:
    for rejection in run.counters.rejections:
        log(
            "warning",
            "rejection",
            call_id=request.call_id,
            object=rejection.object,
            line=rejection.line,
            code=rejection.code,  # the message is omitted: it may quote the file
        )
    for failure in run.counters.failures:
        log("warning", "unreadable", call_id=request.call_id, object=failure.key, message=str(failure.error))
    for error in run.workers.failed_segments.values():
        log("warning", "segment_failed", call_id=request.call_id, message=str(error))
