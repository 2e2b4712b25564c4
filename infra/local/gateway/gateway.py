"""The gateway: the part of OpenFaaS's API that faas-cli, cron-connector and the functions' clients use."""

import hmac
import json
import platform
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from ..output import Say
from ..runtime.functions import NAMESPACE, Function
from ..runtime.logs import read_lines, timestamp
from .async_queue import MAX_BODY, AsyncQueue, QueuedRequest
from .proxy import GatewayError, Headers, Proxy, WatchdogError, new_call_id

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
FOLLOW_SECONDS = 30
"""Seconds that a followed log stays open."""

_VERSION = {"release": "local", "sha": "local"}
_READ_ONLY_PATHS = ("/system/functions", "/system/secrets", "/system/namespace/<name>", "/system/scale-function/<name>")


class Gateway:
    """The gateway of `functions`, whose logs are `logs`/NAME.log.

    With `token_file`, /system/ requires the API token in that file. In OpenFaaS it requires a password.
    """

    def __init__(self, functions: Mapping[str, Function], logs: Path, say: Say, token_file: Path | None = None) -> None:
        self._functions, self._logs, self._token_file = functions, logs, token_file
        self._proxy = Proxy(say)
        workers = max(len(function.replicas) for function in functions.values())  # so queued requests use all replicas
        self._queue = AsyncQueue(self._proxy, workers, say)

    def application(self) -> Flask:
        app = Flask(__name__, static_folder=None)
        app.url_map.merge_slashes = False
        for prefix, view in (("/function", self._invoke), ("/async-function", self._enqueue)):
            for rule in (f"{prefix}/<name>", f"{prefix}/<name>/", f"{prefix}/<name>/<path:path>"):
                app.add_url_rule(rule, view_func=view, methods=METHODS, provide_automatic_options=False)
        app.get("/system/functions")(self._list_functions)
        app.get("/system/function/<name>")(self._describe_function)
        app.get("/system/info")(_info)
        app.get("/system/namespaces")(_namespaces)
        app.get("/system/logs")(self._read_logs)
        app.get("/healthz")(_healthz)
        for rule in _READ_ONLY_PATHS:
            app.route(rule, methods=["POST", "PUT", "DELETE"])(_reject_change)
        app.before_request(self._require_token)
        app.register_error_handler(GatewayError, _render_error)
        app.register_error_handler(WatchdogError, _render_watchdog_error)
        app.register_error_handler(HTTPException, _render_http_exception)
        return app

    def _require_token(self) -> None:
        """Protect settings and logs. The functions check the token themselves."""
        if self._token_file is None or not request.path.startswith("/system/"):
            return
        token = self._token_file.read_text(encoding="utf-8").strip()
        if not token or not hmac.compare_digest(_sent_token(), token.encode()):
            challenge = {"WWW-Authenticate": 'Basic realm="Rollcall", Bearer'}
            message = "the API token is required: as a Bearer token, or as the Basic password (faas-cli login)"
            raise GatewayError(401, "unauthorized", message, challenge)

    def _invoke(self, name: str, path: str = "") -> Response:  # noqa: ARG002 - the path is taken from REQUEST_URI
        body = request.stream if request.content_length else None
        headers, call_id = _upstream_headers(), request.headers.get("X-Call-Id")
        upstream = self._proxy.call(self._find(name), request.method, _upstream_path(), headers, body, call_id)
        return Response(upstream, upstream.status, upstream.headers, direct_passthrough=True)

    def _enqueue(self, name: str, path: str = "") -> Response:  # noqa: ARG002
        function, call_id = self._find(name), request.headers.get("X-Call-Id") or new_call_id()
        if (request.content_length or 0) > MAX_BODY:
            message = f"the body is too large: expected at most {MAX_BODY} bytes in an asynchronous request"
            raise GatewayError(413, "too_large", message)
        headers, body, callback = _upstream_headers(), request.get_data(), request.headers.get("X-Callback-Url")
        self._queue.put(QueuedRequest(function, request.method, _upstream_path(), headers, body, call_id, callback))
        return Response(status=202, headers={"X-Call-Id": call_id})

    def _list_functions(self) -> Response:
        matches = request.args.get("namespace", NAMESPACE) in ("", NAMESPACE)
        return _json([function.status() for function in self._functions.values()] if matches else [])

    def _describe_function(self, name: str) -> Response:
        return _json(self._find(name).status())

    def _read_logs(self) -> Response:
        name = self._find(request.args.get("name", "")).spec.name
        return Response(_log_lines(name, self._logs / f"{name}.log"), content_type="application/x-ndjson")

    def _find(self, name: str) -> Function:
        """Return a function by its name, which may end with the namespace, as cron-connector sends it."""
        function = self._functions.get(name.removesuffix(f".{NAMESPACE}"))
        if function is None:
            message = f"unknown function {name!r}; expected one of {', '.join(self._functions)}"
            raise GatewayError(404, "unknown_function", message)
        return function


def _info() -> Response:
    provider = {"provider": "rollcall-local", "version": _VERSION, "orchestration": "processes"}
    return _json({"provider": provider, "version": _VERSION, "arch": platform.machine()})


def _namespaces() -> Response:
    return _json([NAMESPACE])


def _healthz() -> Response:
    return Response("OK", content_type="text/plain")


def _reject_change(**_: str) -> Response:
    message = "the local stack does not deploy functions: edit stack.yml, then restart the stack"
    raise GatewayError(501, "not_supported", message)


def _upstream_path() -> str:
    """Return the path after the function's name, with the query, both as they were sent."""
    uri: str = request.environ["REQUEST_URI"]
    path, separator, query = uri.partition("?")
    return "/" + "/".join(path.split("/")[3:]) + separator + query


def _sent_token() -> bytes:
    """Return the Bearer token or the Basic password. werkzeug would parse a Bearer token with "=" as parameters."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1", "replace")  # WSGI decodes headers as latin-1
    return ((request.authorization and request.authorization.password) or "").encode()


def _upstream_headers() -> Headers:
    forwarded = [("X-Forwarded-Host", request.host), ("X-Forwarded-For", request.remote_addr or "")]
    names = {name.lower() for name, _ in request.headers}
    return [*request.headers, *((name, value) for name, value in forwarded if name.lower() not in names)]


def _log_lines(name: str, path: Path) -> Iterator[str]:
    """Return the function's log in OpenFaaS's format: one JSON document per line."""
    try:
        last = int(request.args.get("tail") or 0)
        since = request.args.get("since")
        start = timestamp(datetime.fromisoformat(since)) if since else ""
    except (ValueError, OverflowError) as error:
        message = f"invalid tail or since: expected a number and an RFC 3339 time: {error}"
        raise GatewayError(400, "bad_parameter", message) from error
    follow = FOLLOW_SECONDS if request.args.get("follow", "").lower() in ("1", "t", "true") else 0
    lines = read_lines(path, since=start, pid=request.args.get("instance", ""), last=last, follow=follow)
    common = {"name": name, "namespace": NAMESPACE}
    documents = (common | {"instance": line.pid, "timestamp": line.logged_at, "text": line.text} for line in lines)
    return (json.dumps(document, ensure_ascii=False) + "\n" for document in documents)


def _json(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(document, ensure_ascii=False) + "\n"
    return Response(text, status, headers, content_type="application/json")


def _render_error(error: GatewayError) -> Response:
    document = {"error": {"code": error.code, "message": error.message}}
    return _json(document, error.status, error.headers)


def _render_watchdog_error(error: WatchdogError) -> Response:
    response = Response(error.body, error.status, error.headers)
    if not error.body:
        del response.headers["Content-Type"]
    return response


def _render_http_exception(error: HTTPException) -> Response:
    """Render Flask's own errors: unknown path, wrong method, internal error."""
    codes = {404: "not_found", 405: "method_not_allowed", 500: "internal_error"}
    status = error.code or 500
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    allowed = "".join(f", allowed: {names}" for names in headers.values())
    message = f"{request.method} {request.path}: {error.name}{allowed}"
    return _render_error(GatewayError(status, codes.get(status, "bad_request"), message, headers))
