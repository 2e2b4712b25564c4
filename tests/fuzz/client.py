"""Calls both functions' handlers in this process, with a real stack's servers, and checks their responses."""

import io
import json
import os
import re
import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

import process_data.handler
import query_data.handler
from werkzeug.test import create_environ, run_wsgi_app

from infra.local.runtime.host import application
from tests.documents import README, table
from tests.stack import Stack

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

TOKEN = "f77d2a0c4e-the-api-token"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}

_SECRETS = ("api_token", "postgres_password", "s3_access_key", "s3_secret_key")
_TIMEOUT = 30  # seconds
_MAX_MESSAGE = 1000  # characters
_SECURITY_HEADER = ("X-Content-Type-Options", "nosniff")  # on all responses of query-data, but not on Flask's own pages
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True)
class Request:
    """A request as a WSGI server passes it: `path` is percent-decoded, `query` is not.

    Each character of a string stands for one byte.
    """

    path: str = "/"
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: AUTHORIZED)
    method: str = "GET"
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def is_json(self) -> bool:
        return ("Content-Type", "application/json") in self.headers


class Client:
    """Sends requests to a function: `send` returns the response, `problems` returns what is wrong with the response."""

    def __init__(self, app: "WSGIApplication", secrets: Collection[str], unavailable: Collection[str] = ()) -> None:
        """`unavailable` has the error codes of services that are missing here. Any other 5xx error is a finding."""
        self._app, self._secrets = app, [secret.encode() for secret in secrets]
        self._errors = {
            (int(status), code)
            for status, codes, *_ in table(README, "Errors")
            for code in codes.replace("`", "").split(", ")
            if int(status) < 500 or code in unavailable
        }

    def send(self, request: Request) -> Response:
        return self._send(request)[0]

    def problems(self, request: Request) -> list[str]:
        try:
            response, log = self._send(request)
        except Exception as error:  # noqa: BLE001 - any exception is a finding
            return [f"{error!r}: {request}"]
        return [f"{problem}: {request}" for problem in self._problems(request, response, log)]

    def _send(self, request: Request) -> tuple[Response, str]:
        environ = create_environ(method=request.method, data=request.body)
        environ |= {"PATH_INFO": request.path, "QUERY_STRING": request.query}
        environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items()}
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")  # CGI's name of this header has no prefix
        with redirect_stderr(io.StringIO()) as log, _within(_TIMEOUT):
            chunks, status, headers = run_wsgi_app(self._app, environ, buffered=True)
        return Response(int(status.split()[0]), list(headers), b"".join(chunks)), log.getvalue()

    def _problems(self, request: Request, response: Response, log: str) -> Iterator[str]:
        for name, value in response.headers:
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                yield f"invalid header {name!r}: {value!r}"
        text = repr(response.headers).encode() + response.body + log.encode()
        if any(secret in text for secret in self._secrets):
            yield "a secret is exposed"
        if request.method != "HEAD":
            yield from self._problems_of_content(response)
        elif response.status not in (200, 304, *dict(self._errors)):
            yield f"HEAD: {response.status} with {response.headers}"

    def _problems_of_content(self, response: Response) -> Iterator[str]:
        content = _parse_json(response) if response.is_json else None
        error = (content or {}).get("error")
        code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, None)
        text = f"{response.status} with {response.headers} and {response.body[:200]!r}"
        if response.status < 400:
            if response.status not in (200, 304) or (response.is_json and content is None):
                yield text
        elif content is None:
            is_page = response.body.startswith(b"<!doctype html>") and _SECURITY_HEADER in response.headers
            if not is_page or response.status not in dict(self._errors):
                yield text
        elif not isinstance(code, str) or (response.status, code) not in self._errors:
            yield text
        elif not isinstance(message, str) or not 0 < len(message) <= _MAX_MESSAGE:
            yield f"{response.status} with the message {message!r}"


def _parse_json(response: Response) -> dict[str, Any] | None:
    """Return the JSON object in a body, or None."""
    try:
        value = json.loads(response.body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


@contextmanager
def clients(stack: Stack) -> Iterator[tuple[Client, Client]]:
    """Yield clients of process-data and query-data, with the stack's settings but a required token and no gateway."""
    before = dict(os.environ)
    common = {"auth": "token", "api_token": TOKEN, "gateway_url": "http://127.0.0.1:9"}
    functions = ((process_data.handler, stack.process_settings), (query_data.handler, stack.query_settings))
    secrets = {settings[name] for _, settings in functions for name in _SECRETS if name in settings} | {TOKEN}
    try:
        for handler, settings in functions:
            handler._application.clear()
            os.environ.update({**settings, **common})
            handler._application.get()  # reads its settings before those of the other function are set
        yield (
            Client(application(process_data.handler.handle), secrets, ["gateway_unavailable"]),
            Client(application(query_data.handler.handle), secrets),
        )
    finally:
        os.environ.clear()
        os.environ.update(before)
        for handler, _ in functions:
            handler._application.get().close()
            handler._application.clear()


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the block after `seconds`."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"no response after {seconds} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
