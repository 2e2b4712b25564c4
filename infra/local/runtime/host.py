"""A function's process: serves the package `function` as OpenFaaS's template python3-http-debian does.

    python host.py --socket DESCRIPTOR

Like the watchdog, it serves /_/health, and exits after SIGTERM once no request is in progress. It listens on the
inherited socket, which is bound to a port of the loopback interface.
"""

import argparse
import importlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

import flask
import waitress
from werkzeug.wsgi import ClosingIterator

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

METHODS = ["GET", "PUT", "POST", "PATCH", "DELETE"]


class Event:
    """The request that is passed to the handler."""

    def __init__(self, request: flask.Request) -> None:
        self.body = request.get_data()
        self.headers = request.headers
        self.method = request.method
        self.query = request.args
        self.path = request.path


class Context:
    def __init__(self) -> None:
        self.hostname = os.environ.get("HOSTNAME", "localhost")


Handler = Callable[[Event, Context], Any]


def application(handle: Handler) -> flask.Flask:
    app = flask.Flask(__name__)

    @app.get("/_/health")
    def health() -> str:
        return "OK"

    @app.route("/", defaults={"path": ""}, methods=METHODS)
    @app.route("/<path:path>", methods=METHODS)
    def call(path: str) -> Any:  # noqa: ARG001 - the event has it
        return to_response(handle(Event(flask.request), Context()))

    return app


def to_response(result: Any) -> Any:
    """Convert a handler's result for Flask: None to an empty 200, a dict to a tuple; anything else is unchanged."""
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


class Shutdown:
    """Middleware that exits the process after SIGTERM, once `app` has no request in progress.

    The function's signal handler is called first. Further signals are ignored.
    """

    _FLUSH_SECONDS = 0.5  # for the server to send the last response

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app
        self._function_handler = signal.getsignal(signal.SIGTERM)
        self._idle, self._requests = threading.Condition(), 0
        self._stopping = self._finished = False

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        self._count(1)
        try:
            return ClosingIterator(self._app(environ, start_response), [lambda: self._count(-1)])
        except BaseException:
            self._count(-1)
            raise

    def _count(self, change: int) -> None:
        with self._idle:
            self._requests += change
            self._idle.notify_all()

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._finished:
            raise SystemExit(0)  # ends the server's main loop
        if not self._stopping:
            self._stopping = True
            if callable(self._function_handler):
                self._function_handler(signum, frame)
            threading.Thread(target=self._exit_when_idle, daemon=True).start()

    def _exit_when_idle(self) -> None:
        time.sleep(self._FLUSH_SECONDS)
        while self._requests:
            with self._idle:
                self._idle.wait_for(lambda: self._requests == 0)
            time.sleep(self._FLUSH_SECONDS)
        self._finished = True
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    bound = socket.socket(fileno=parser.parse_args().socket)
    handle: Handler = importlib.import_module("function.handler").handle
    shutdown = Shutdown(application(handle))
    signal.signal(signal.SIGTERM, shutdown.on_signal)
    waitress.serve(shutdown, sockets=[bound])


if __name__ == "__main__":
    main()
