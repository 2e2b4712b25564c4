"""Calls to the functions. Response bodies are streamed; request bodies are not, as waitress reads them first."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import Timer
from typing import IO

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError

from ..config.stack import FunctionSpec
from ..output import Say
from ..runtime.functions import Function

CHUNK = 64 * 1024

MAX_CALLS = 192
"""The maximum number of concurrent calls. The replicas in stack.yml (one of query-data, up to MAX_REPLICAS of
process-data) accept fewer in total, so the functions, not the gateway, limit requests."""

_NOT_RUNNING = "is not running; it is being started"

_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip

Headers = list[tuple[str, str]]


class GatewayError(Exception):
    """An error of the gateway itself, sent as JSON with a code and a message."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}


class WatchdogError(Exception):
    """The response of of-watchdog, or of the gateway in front of it, when the function sends none."""

    def __init__(self, status: int, headers: dict[str, str], body: str = "") -> None:
        super().__init__(f"the watchdog returned {status}")
        self.status, self.headers, self.body = status, headers, body


@dataclass(frozen=True)
class TimeLimit:
    """The time limit of a call. `deadline` is on the monotonic clock."""

    name: str
    seconds: float
    deadline: float

    def error(self) -> TimeoutError | None:
        """Return the error if the limit has been reached."""
        return TimeoutError(f"its {self.name} has expired") if time.monotonic() > self.deadline else None

    def check(self) -> None:
        if error := self.error():
            raise error


class UpstreamResponse:
    """A function's response: its status and headers, and its body to iterate over once.

    The iteration ends normally even if the function fails midway or reaches its time limit: OpenFaaS, too, ends such a
    response as if it were complete. `close` aborts the call.
    """

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        headers: Headers,
        limit: TimeLimit,
        on_interruption: Callable[[Exception], None],
    ) -> None:
        self._response, self._limit, self._on_interruption = response, limit, on_interruption
        self.status = response.status
        self.headers = end_to_end(response.headers.items()) + headers
        self._chunks = response.stream(CHUNK, decode_content=False)

    def __iter__(self) -> Iterator[bytes]:
        # The timer is needed for a client that does not read, which blocks the generator at a yield, and for a silent
        # function, which blocks the read.
        timer = Timer(self._limit.deadline - time.monotonic(), self._abort)
        timer.daemon = True
        timer.start()
        try:
            for chunk in self._chunks:
                self._limit.check()
                yield chunk
            self._limit.check()  # the end of a response that _abort closed looks like a normal end
        except Exception as error:  # noqa: BLE001 - a read may fail in any way if _abort closes the response
            self._on_interruption(self._limit.error() or error)
            self._response.close()
            return
        finally:
            timer.cancel()
        self._response.release_conn()

    def _abort(self) -> None:
        """Abort the call and wake the thread that reads: `close` alone would wait for its read."""
        with suppress(OSError, ValueError, RuntimeError):  # it has just been closed or released
            self._response.shutdown()
        self._response.close()

    def close(self) -> None:
        self._response.close()


class Proxy:
    def __init__(self, say: Say) -> None:
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
        """Call the function. `path` is raw and includes the query. Raise WatchdogError if there is no response."""
        if (replica := function.choose()) is None:
            raise self._no_response(function, headers, 500, _NOT_RUNNING)
        trace_headers = [("X-Call-Id", call_id or new_call_id()), ("X-Start-Time", str(time.time_ns()))]
        limit = _time_limit(function.spec, headers)
        try:
            response = self._pool.urlopen(
                method,
                replica.url + path,
                headers=_request_headers(headers, trace_headers),
                body=body,
                timeout=urllib3.Timeout(connect=5, read=limit.seconds),
                preload_content=False,
                redirect=False,
            )
            return UpstreamResponse(
                response,
                trace_headers,
                limit,
                lambda error: self._say(f"{function.spec.name}: response interrupted: {error}"),
            )
        except ReadTimeoutError as error:
            reason = f"did not respond within its {limit.name} of {limit.seconds:g} s"
            raise self._no_response(function, headers, 504, reason) from error
        except NewConnectionError as error:
            raise self._no_response(function, headers, 500, _NOT_RUNNING) from error
        except HTTPError as error:
            reason = "exited without a response; see its log"
            raise self._no_response(function, headers, 500, reason) from error

    def _no_response(self, function: Function, headers: Headers, status: int, reason: str) -> WatchdogError:
        """Return the error that the client receives. It does not contain the reason, which is printed."""
        self._say(f"{function.spec.name} {reason}")
        if _is_streamed(headers):
            # the watchdog closes the connection at its write_timeout: the gateway returns 502; other errors become 200
            return WatchdogError(502 if status == 504 else 200, {})
        return WatchdogError(status, {"X-OpenFaaS-Internal": "of-watchdog"})


def _is_streamed(headers: Headers) -> bool:
    """Return whether the watchdog uses its streaming proxy, which ignores exec_timeout and turns errors into 200."""
    accept = ",".join(value.lower() for name, value in headers if name.lower() == "accept")
    return "text/event-stream" in accept or "application/x-ndjson" in accept


def _time_limit(spec: FunctionSpec, headers: Headers) -> TimeLimit:
    name, seconds = (
        ("write_timeout", spec.write_timeout) if _is_streamed(headers) else ("exec_timeout", spec.exec_timeout)
    )
    return TimeLimit(name, seconds, time.monotonic() + seconds)


def new_call_id() -> str:
    return str(uuid.uuid4())


def end_to_end(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return the headers without the hop-by-hop ones."""
    pairs = list(headers)
    connection_options = {
        token.strip().lower() for name, value in pairs if name.lower() == "connection" for token in value.split(",")
    }
    return [(name, value) for name, value in pairs if name.lower() not in _HOP_BY_HOP | connection_options]


def _request_headers(headers: Headers, trace_headers: Headers) -> dict[str, str]:
    """Return the headers for urllib3, without its defaults. WSGI has already joined repeated headers."""
    suppressed = dict.fromkeys(("accept-encoding", "user-agent"), urllib3.util.SKIP_HEADER)
    replaced = {name.lower() for name, _ in trace_headers} | {"host"}
    forwarded = {name.lower(): value for name, value in end_to_end(headers) if name.lower() not in replaced}
    return suppressed | forwarded | dict(trace_headers)
