"""The gateway: enough of OpenFaaS's API for faas-cli, cron-connector and the functions' callers."""

import hmac
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from .asynchronous import LARGEST, AsyncQueue, Later
from .functions import NAMESPACE, Function
from .logs import read_lines, timestamp
from .proxy import GatewayError, Headers, Proxy, WatchdogError, new_call_id

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
FOLLOW = 30
"""Seconds that a followed log stays open, as in OpenFaaS."""

_VERSION = {"release": "local", "sha": "local"}
_DEPLOYMENT = ("/system/functions", "/system/secrets", "/system/namespace/<name>", "/system/scale-function/<name>")


class Gateway:
    """What the gateway answers from: the functions, and their logs as `logs`/NAME.log.

    With `token`, the file of the API token, its own API requires that, in the place of OpenFaaS's password.
    """

    def __init__(
        self, functions: Mapping[str, Function], logs: Path, say: Callable[[str], None], token: Path | None = None
    ) -> None:
        self._functions, self._logs, self._token = functions, logs, token
        self._proxy = Proxy(say)
        workers = max(len(function.replicas) for function in functions.values())
        self._queue = AsyncQueue(self._proxy, workers, say)

    def application(self) -> Flask:
        app = Flask(__name__, static_folder=None)
        app.url_map.merge_slashes = False
        for prefix, view in (("/function", self._invoke), ("/async-function", self._invoke_later)):
            for rule in (f"{prefix}/<name>", f"{prefix}/<name>/", f"{prefix}/<name>/<path:path>"):
                app.add_url_rule(rule, view_func=view, methods=METHODS, provide_automatic_options=False)
        app.get("/system/functions")(self._list)
        app.get("/system/function/<name>")(self._describe)
        app.get("/system/info")(_info)
        app.get("/system/namespaces")(_namespaces)
        app.get("/system/logs")(self._read_logs)
        app.get("/healthz")(_healthz)
        for rule in _DEPLOYMENT:
            app.route(rule, methods=["POST", "PUT", "DELETE"])(_deploy)
        app.before_request(self._require_token)
        app.register_error_handler(GatewayError, _render_error)
        app.register_error_handler(WatchdogError, _render_watchdog_error)
        app.register_error_handler(HTTPException, _failed)
        return app

    def _require_token(self) -> None:
        """The functions ask for it themselves; settings and logs are the gateway's to keep."""
        if self._token is None or not request.path.startswith("/system/"):
            return
        token, given = self._token.read_text(encoding="utf-8").strip(), request.authorization
        said = (given.token or given.password or "") if given else ""
        if not token or not hmac.compare_digest(said.encode(), token.encode()):
            challenge = {"WWW-Authenticate": 'Basic realm="Rollcall", Bearer'}
            message = "the API token is needed: as Bearer, or as Basic's password (faas-cli login)"
            raise GatewayError(401, "unauthorized", message, challenge)

    def _invoke(self, name: str, path: str = "") -> Response:  # noqa: ARG002 - passed on as it came
        body = request.stream if request.content_length else None
        upstream = self._proxy.call(
            self._named(name), request.method, _onward(), _forwarded(), body, request.headers.get("X-Call-Id")
        )
        return Response(upstream, upstream.status, upstream.headers, direct_passthrough=True)  # the server closes it

    def _invoke_later(self, name: str, path: str = "") -> Response:  # noqa: ARG002
        function, call_id = self._named(name), request.headers.get("X-Call-Id") or new_call_id()
        if (request.content_length or 0) > LARGEST:
            raise GatewayError(413, "too_large", f"an asynchronous request may have {LARGEST} bytes at most")
        callback = request.headers.get("X-Callback-Url")
        self._queue.put(Later(function, request.method, _onward(), _forwarded(), request.get_data(), call_id, callback))
        return Response(status=202, headers={"X-Call-Id": call_id})

    def _list(self) -> Response:
        here = request.args.get("namespace", NAMESPACE) in ("", NAMESPACE)
        return _json([function.status() for function in self._functions.values()] if here else [])

    def _describe(self, name: str) -> Response:
        return _json(self._named(name).status())

    def _read_logs(self) -> Response:
        name = self._named(request.args.get("name", "")).spec.name
        return Response(_messages(name, self._logs / f"{name}.log"), content_type="application/x-ndjson")

    def _named(self, name: str) -> Function:
        """The function; cron-connector appends the namespace to its name."""
        function = self._functions.get(name.removesuffix(f".{NAMESPACE}"))
        if function is None:
            there = ", ".join(self._functions)
            raise GatewayError(404, "unknown_function", f"there is no function {name!r}; there are: {there}")
        return function


def _info() -> Response:
    provider = {"provider": "rollcall-local", "version": _VERSION, "orchestration": "processes"}
    return _json({"provider": provider, "version": _VERSION, "arch": platform.machine()})


def _namespaces() -> Response:
    return _json([NAMESPACE])


def _healthz() -> Response:
    return Response("OK", content_type="text/plain")


def _deploy(**_: str) -> Response:
    message = "the local stack runs what stack.yml names: change that, then stop the stack and start it again"
    raise GatewayError(501, "not_supported", message)


def _onward() -> str:
    """The path after the function's name and the query, as they came."""
    raw: str = request.environ["REQUEST_URI"]
    path, mark, query = raw.partition("?")
    return "/" + "/".join(path.split("/")[3:]) + mark + query


def _forwarded() -> Headers:
    own = [("X-Forwarded-Host", request.host), ("X-Forwarded-For", request.remote_addr or "")]
    given = {name.lower() for name, _ in request.headers}
    return [*request.headers, *((name, value) for name, value in own if name.lower() not in given)]


def _messages(name: str, path: Path) -> Iterator[str]:
    """OpenFaaS's log messages, one JSON document a line."""
    try:
        last = int(request.args.get("tail") or 0)
        since = request.args.get("since")
        start = timestamp(datetime.fromisoformat(since)) if since else ""
    except ValueError as error:
        raise GatewayError(
            400, "bad_parameter", f"tail is a number, since a time as RFC 3339 has it: {error}"
        ) from error
    follow = FOLLOW if request.args.get("follow", "").lower() in ("1", "t", "true") else 0
    instance = request.args.get("instance")
    lines = read_lines(path, since=start, last=last, follow=follow)
    fields = {"name": name, "namespace": NAMESPACE}
    return (
        json.dumps(fields | {"instance": one.pid, "timestamp": one.at, "text": one.text}, ensure_ascii=False) + "\n"
        for one in lines
        if instance in (None, "", one.pid)
    )


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


def _failed(error: HTTPException) -> Response:
    """Flask's own errors: no such path, wrong method, a failure in here."""
    codes = {404: "not_found", 405: "method_not_allowed", 500: "internal_error"}
    status = error.code or 500
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    allowed = "".join(f", allowed: {names}" for names in headers.values())
    message = f"{request.method} {request.path}: {error.name}{allowed}"
    return _render_error(GatewayError(status, codes.get(status, "bad_request"), message, headers))
