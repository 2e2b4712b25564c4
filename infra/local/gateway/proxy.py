"""Calls to the functions: bytes pass through as they come, and nothing is held whole."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from threading import Timer
from typing import IO

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError

from .functions import Function

CHUNK = 64 * 1024

MAX_CALLS = 128
"""Calls at the same time: more than a replica takes on, so that the functions are what limits requests."""

_EXPIRED = "its exec_timeout has passed"

_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip

Headers = list[tuple[str, str]]


class GatewayError(Exception):
    """An error of this gateway's own, sent as JSON: a status, a code for programs, a message for people."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}


class WatchdogError(Exception):
    """A response that of-watchdog gives instead of the function, as its clients get it on OpenFaaS."""

    def __init__(self, status: int, headers: dict[str, str], body: str = "") -> None:
        super().__init__(f"{status} of the watchdog")
        self.status, self.headers, self.body = status, headers, body


class UpstreamResponse:
    """A function's response: its status and headers, and its body to iterate over once.

    The iteration ends when the function breaks off or its exec_timeout passes, as it does at the end of a complete
    response: of-watchdog and OpenFaaS's gateway do the same, and log it. `close` drops the call.
    """

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        headers: Headers,
        deadline: float,
        interrupted: Callable[[Exception], None],
    ) -> None:
        self._response, self._deadline, self._interrupted = response, deadline, interrupted
        self.status = response.status
        self.headers = end_to_end(response.headers.items()) + headers
        self._chunks = response.stream(CHUNK, decode_content=False)
        self._first = next(self._chunks, b"")  # also when a large request has taken all the time

    def __iter__(self) -> Iterator[bytes]:
        # a client that reads nothing keeps this waiting, and must not keep the function waiting with it
        timer = Timer(self._deadline - time.monotonic(), self._response.close)
        timer.daemon = True
        timer.start()
        try:
            yield self._first
            for chunk in self._chunks:
                _check_deadline(self._deadline)
                yield chunk
            _check_deadline(self._deadline)  # what was closed ends like what is complete
        except Exception as error:  # noqa: BLE001 - a read may fail in any way when its response is closed meanwhile
            self._interrupted(TimeoutError(_EXPIRED) if time.monotonic() > self._deadline else error)
            self._response.close()
            return
        finally:
            timer.cancel()
        self._response.release_conn()

    def close(self) -> None:
        self._response.close()


class Proxy:
    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._pool = urllib3.PoolManager(num_pools=32, maxsize=MAX_CALLS, retries=False)

    def call(
        self,
        function: Function,
        method: str,
        path: str,
        headers: Headers,
        body: IO[bytes] | None,
        call_id: str | None = None,
    ) -> UpstreamResponse:
        """Call the function; `path` is raw, with the query. WatchdogError when it does not respond."""
        if (replica := function.choose()) is None:
            raise self._no_response(function, headers, 500, "is not running; it is being started")
        trace_headers = [("X-Call-Id", call_id or new_call_id()), ("X-Start-Time", str(time.time_ns()))]
        deadline = time.monotonic() + function.timeout
        try:
            response = self._pool.urlopen(
                method,
                replica.url + path,
                headers=_request_headers(headers, trace_headers),
                body=body,
                timeout=urllib3.Timeout(connect=5, read=function.timeout),
                preload_content=False,
                redirect=False,
            )
            return UpstreamResponse(
                response,
                trace_headers,
                deadline,
                lambda error: self._say(f"{function.spec.name} was interrupted in its response: {error}"),
            )
        except ReadTimeoutError as error:
            reason = f"did not respond within its exec_timeout of {function.timeout:g} s"
            raise self._no_response(function, headers, 504, reason) from error
        except NewConnectionError as error:
            raise self._no_response(function, headers, 500, "is not running; it is being started") from error
        except HTTPError as error:
            reason = "ended without a response; its log may say why"
            raise self._no_response(function, headers, 500, reason) from error

    def _no_response(self, function: Function, headers: Headers, status: int, reason: str) -> WatchdogError:
        """What clients get instead of a response. Only the log says why."""
        self._say(f"{function.spec.name} {reason}")
        if _is_streamed(headers):
            return WatchdogError(200, {})
        return WatchdogError(status, {"X-OpenFaaS-Internal": "of-watchdog"})


def _is_streamed(headers: Headers) -> bool:
    """Whether the watchdog passes the request on by a proxy that says nothing of errors: 200, and an empty body."""
    accept = ",".join(value.lower() for name, value in headers if name.lower() == "accept")
    return "text/event-stream" in accept or "application/x-ndjson" in accept


def _check_deadline(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(_EXPIRED)


def new_call_id() -> str:
    return str(uuid.uuid4())


def end_to_end(headers: Iterable[tuple[str, str]]) -> Headers:
    """The headers that are meant for the other end, not for the next hop."""
    pairs = list(headers)
    named = {
        token.strip().lower() for name, value in pairs if name.lower() == "connection" for token in value.split(",")
    }
    return [(name, value) for name, value in pairs if name.lower() not in _HOP_BY_HOP | named]


def _request_headers(headers: Headers, trace_headers: Headers) -> dict[str, str]:
    """WSGI has joined repeated headers already. urllib3 is kept from adding its own."""
    suppressed = dict.fromkeys(("accept-encoding", "user-agent"), urllib3.util.SKIP_HEADER)
    own = {name.lower() for name, _ in trace_headers} | {"host"}
    passed = {name.lower(): value for name, value in end_to_end(headers) if name.lower() not in own}
    return suppressed | passed | dict(trace_headers)
