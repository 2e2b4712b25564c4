"""What both functions' HTTP sides share: JSON answers, JSON errors, log lines."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from traceback import extract_tb
from typing import Any, Protocol

from flask import Response
from werkzeug.datastructures import Headers, MultiDict

from .log import log
from .storage.errors import Refused, SchemaMissing, SettingError, StorageError, Unavailable

RETRY_AFTER = "5"
"""Seconds a client is asked to wait when a store is away."""


class Event(Protocol):
    """The request as the python3-http templates hand it over."""

    body: bytes
    headers: Headers
    method: str
    query: MultiDict[str, str]
    path: str


class ApiError(Exception):
    """An answer other than the one asked for: an HTTP status, a code for machines, a message for people."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None, **detail: object
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers, self.detail = dict(headers or {}), detail


Handle = Callable[[Event, object], Response]
Render = Callable[[Event, ApiError], Response]


def error_response(_event: Event, error: ApiError) -> Response:
    """The error as JSON."""
    content: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.detail:
        content["detail"] = error.detail
    return json_response({"error": content}, error.status, error.headers)


def handler(handle: Handle, render: Render = error_response) -> Handle:
    """Turn whatever `handle` raises into an error that shows no stack trace and no secret."""

    @wraps(handle)
    def answered(event: Event, context: object) -> Response:
        try:
            return handle(event, context)
        except Exception as error:  # noqa: BLE001 - the outermost frame: what gets past it becomes HTML
            refusal = _refusal(error)
            if refusal.status >= 500:
                _log_failure(event, error, refusal)
            return render(event, refusal)

    return answered


def require_method(event: Event, allowed: Iterable[str]) -> None:
    names = ", ".join(allowed)
    if event.method not in names.split(", "):
        raise ApiError(
            405, "method_not_allowed", f"{event.method} is not allowed here: {names}", headers={"Allow": names}
        )


def json_response(payload: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(payload, ensure_ascii=False)
    return Response(body + "\n", status, headers, content_type="application/json")


def _refusal(error: Exception) -> ApiError:
    away = {"Retry-After": RETRY_AFTER}
    match error:
        case ApiError():
            return error
        case Unavailable():
            return ApiError(503, f"{error.service}_unavailable", str(error), headers=away)
        case Refused():
            return ApiError(503, f"{error.service}_refused", str(error), headers=away)
        case SchemaMissing():
            message = "the database lacks a table or a column: apply the migrations by infra/postgres/setup.sh"
            return ApiError(503, "schema_missing", message, headers=away)
        case SettingError():
            return ApiError(500, "bad_setting", str(error))
        case _:
            return ApiError(500, "internal_error", "something went wrong here; the function's log says what")


def _log_failure(event: Event, error: Exception, refusal: ApiError) -> None:
    frames = extract_tb(error.__traceback__)
    expected = isinstance(error, StorageError | ApiError)
    log(
        "error",
        "failure",
        code=refusal.code,
        message=str(error) if expected else f"{type(error).__name__}: {error}",
        at=f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else None,
        call_id=event.headers.get("X-Call-Id"),
    )
