"""HTTP for both functions: requests, JSON responses and errors."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from traceback import extract_tb
from typing import Any, Protocol

from flask import Response
from werkzeug.datastructures import Headers, MultiDict

from .log import log
from .quoting import truncate
from .storage.errors import AccessDenied, SchemaMissing, SettingError, StorageError, Unavailable

_RETRY_AFTER = "5"  # seconds, for backend errors


class Event(Protocol):
    """The request as OpenFaaS's python3-http templates pass it."""

    body: bytes
    headers: Headers
    method: str
    query: MultiDict[str, str]
    path: str


class ApiError(Exception):
    """An error response: an HTTP status, a code for programs, a message for people."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None, **detail: object
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers, self.detail = dict(headers or {}), detail


Handler = Callable[[Event, object], Response]
ErrorRenderer = Callable[[Event, ApiError], Response]


def error_response(_event: Event, error: ApiError) -> Response:
    """Return the error as JSON."""
    content: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.detail:
        content["detail"] = error.detail
    return json_response({"error": content}, error.status, error.headers)


def handle_errors(handler: Handler, render: ErrorRenderer = error_response) -> Handler:
    """Return a handler that renders exceptions from `handler` as responses, without stack traces or secrets."""

    @wraps(handler)
    def wrapper(event: Event, context: object) -> Response:
        try:
            return handler(event, context)
        except Exception as error:  # noqa: BLE001 - Flask would render it as an HTML page
            api_error = _to_api_error(error)
            if api_error.status >= 500:
                _log_failure(event, error, api_error)
            return render(event, api_error)

    return wrapper


def invalid_parameter(name: str, message: str) -> ApiError:
    return ApiError(400, "bad_parameter", message, parameter=truncate(name))


def require_method(event: Event, allowed: Sequence[str]) -> None:
    """Raise ApiError 405 unless the request's method is one of `allowed`."""
    if event.method not in allowed:
        names = ", ".join(allowed)
        message = f"method {event.method} is not allowed; expected {names}"
        raise ApiError(405, "method_not_allowed", message, headers={"Allow": names})


def json_response(payload: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(payload, ensure_ascii=False)
    return Response(body + "\n", status, headers, content_type="application/json")


def _to_api_error(error: Exception) -> ApiError:
    retry = {"Retry-After": _RETRY_AFTER}
    match error:
        case ApiError():
            return error
        case Unavailable():
            return ApiError(503, f"{error.service}_unavailable", str(error), headers=retry)
        case AccessDenied():
            return ApiError(503, f"{error.service}_access_denied", str(error), headers=retry)
        case SchemaMissing():
            message = "the database lacks a table or a column: apply the migrations with infra/postgres/setup.sh"
            return ApiError(503, "schema_missing", message, headers=retry)
        case SettingError():
            return ApiError(500, "bad_setting", str(error))
        case _:
            return ApiError(500, "internal_error", "unexpected error; the function's log has the details")


def _log_failure(event: Event, error: Exception, api_error: ApiError) -> None:
    origin = extract_tb(error.__traceback__)[-1]
    is_expected = isinstance(error, StorageError | ApiError)
    log(
        "error",
        "failure",
        code=api_error.code,
        message=str(error) if is_expected else f"{type(error).__name__}: {error}",
        at=f"{origin.filename.rpartition('/')[2]}:{origin.lineno}",
        call_id=event.headers.get("X-Call-Id"),
    )
