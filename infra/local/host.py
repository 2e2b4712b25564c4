"""A function's process: OpenFaaS's python3-http-debian contract around the package `function`.

    python host.py --port PORT

It differs from the template's in two things: it listens on loopback alone, at a port of the starter's
choice, and it answers /_/health itself, as the watchdog does in production.
"""

import argparse
import importlib
import os
from collections.abc import Callable
from typing import Any

import flask
import waitress

METHODS = ["GET", "PUT", "POST", "PATCH", "DELETE"]


class Event:
    """The request, as the handler is given it."""

    def __init__(self, request: flask.Request) -> None:
        self.body = request.get_data()
        self.headers = request.headers
        self.method = request.method
        self.query = request.args
        self.path = request.path


class Context:
    def __init__(self) -> None:
        self.hostname = os.environ.get("HOSTNAME", "localhost")


Handle = Callable[[Event, Context], Any]


def application(handle: Handle) -> flask.Flask:
    app = flask.Flask(__name__)

    @app.get("/_/health")
    def health() -> str:
        return "OK"

    @app.route("/", defaults={"path": ""}, methods=METHODS)
    @app.route("/<path:path>", methods=METHODS)
    def call(path: str) -> Any:  # noqa: ARG001 - the event carries it
        return answer(handle(Event(flask.request), Context()))

    return app


def answer(result: Any) -> Any:
    """What Flask is given: nothing is an empty 200, a dict is taken apart, all else passes through."""
    if result is None:
        return "", 200
    if type(result) is not dict:
        return result
    headers = result.get("headers", [])
    return _body(result), result.get("statusCode", 200), list(headers.items()) if type(headers) is dict else headers


def _body(result: dict[str, Any]) -> Any:
    if "body" not in result:
        return ""
    body = result["body"]
    if result.get("headers", {}).get("Content-type") == "application/octet-stream":
        return body
    return flask.jsonify(body) if type(body) is dict else str(body)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    handle: Handle = importlib.import_module("function.handler").handle
    waitress.serve(application(handle), host="127.0.0.1", port=port)


if __name__ == "__main__":
    main()
