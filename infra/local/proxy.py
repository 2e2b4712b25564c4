"""Calls to the functions: bytes pass through as they come, and nothing is held whole."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from threading import Timer
from typing import IO

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError

from .functions import Function, Replica

CHUNK = 64 * 1024

_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip

Headers = list[tuple[str, str]]


class Refusal(Exception):
    """An answer of the gateway's own: an HTTP status, a code for machines, a message for people."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}


class Answer:
    """A function's answer: its status and headers, and its body to iterate over once.

    The iteration raises when the function breaks off or its exec_timeout passes, so that what was passed on
    is cut and not taken for the whole; `close` drops the call.
    """

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        headers: Headers,
        deadline: float,
        cut: Callable[[Exception], None],
        over: Callable[[], object],
    ) -> None:
        self._response, self._deadline, self._cut, self._over = response, deadline, cut, over
        self.status = response.status
        self.headers = end_to_end(response.headers.items()) + headers
        self._chunks = response.stream(CHUNK, decode_content=False)
        self._first = next(self._chunks, b"")  # what fails until here can still be told with a status

    def __iter__(self) -> Iterator[bytes]:
        # a client that reads nothing keeps this waiting, and must not keep the function waiting with it
        late = Timer(self._deadline - time.monotonic(), self._response.close)
        late.daemon = True
        late.start()
        try:
            yield self._first
            for chunk in self._chunks:
                _check_deadline(self._deadline)
                yield chunk
            _check_deadline(self._deadline)  # what was closed ends like what is complete
        except (HTTPError, OSError, ValueError) as error:
            self._cut(error)
            raise
        finally:
            late.cancel()
        self._response.release_conn()

    def close(self) -> None:
        self._response.close()
        self._over()


class Proxy:
    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._pool = urllib3.PoolManager(num_pools=32, maxsize=32, retries=False)

    def call(
        self,
        function: Function,
        method: str,
        path: str,
        headers: Headers,
        body: IO[bytes] | None,
        call_id: str | None = None,
    ) -> Answer:
        """Call the function; `path` is raw, with the query. Refusal when it gives no answer."""
        if (replica := function.choose()) is None:
            raise _starting(function)
        if not replica.enter():  # as the watchdog has it
            message = f"{function.spec.name} has as many requests as its max_inflight allows"
            raise Refusal(429, "too_many_requests", message)
        request = ExitStack()
        request.callback(replica.leave)
        try:
            return self._call(function, replica, method, path, headers, body, call_id, request.close)
        except BaseException:
            request.close()
            raise

    def _call(
        self,
        function: Function,
        replica: Replica,
        method: str,
        path: str,
        headers: Headers,
        body: IO[bytes] | None,
        call_id: str | None,
        over: Callable[[], object],
    ) -> Answer:
        marks = [("X-Call-Id", call_id or new_call_id()), ("X-Start-Time", str(time.time_ns()))]
        deadline = time.monotonic() + function.timeout
        try:
            response = self._pool.urlopen(
                method,
                replica.url + path,
                headers=_request_headers(headers, marks),
                body=body,
                timeout=urllib3.Timeout(connect=5, read=function.timeout),
                preload_content=False,
                redirect=False,
            )
            return Answer(
                response,
                marks,
                deadline,
                lambda error: self._say(f"{function.spec.name} was cut in mid-answer: {error}"),
                over,
            )
        except ReadTimeoutError as error:
            message = f"{function.spec.name} gave no answer within its exec_timeout of {function.timeout:g} s"
            raise Refusal(504, "timeout", message) from error
        except NewConnectionError as error:
            raise _starting(function) from error
        except HTTPError as error:
            message = f"{function.spec.name} ended without a whole answer; its log may say why"
            raise Refusal(502, "no_answer", message) from error


def _check_deadline(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError("its exec_timeout has passed")


def new_call_id() -> str:
    return str(uuid.uuid4())


def end_to_end(headers: Iterable[tuple[str, str]]) -> Headers:
    """The headers that are meant for the other end, not for the next hop."""
    pairs = list(headers)
    named = {
        token.strip().lower() for name, value in pairs if name.lower() == "connection" for token in value.split(",")
    }
    return [(name, value) for name, value in pairs if name.lower() not in _HOP_BY_HOP | named]


def _request_headers(headers: Headers, marks: Headers) -> dict[str, str]:
    """WSGI has joined repeated headers already. urllib3 is kept from adding its own."""
    silent = dict.fromkeys(("accept-encoding", "user-agent"), urllib3.util.SKIP_HEADER)
    own = {name.lower() for name, _ in marks} | {"host"}
    passed = {name.lower(): value for name, value in end_to_end(headers) if name.lower() not in own}
    return silent | passed | dict(marks)


def _starting(function: Function) -> Refusal:
    message = f"{function.spec.name} is not running at the moment; it is being started again"
    return Refusal(503, "function_unavailable", message, {"Retry-After": "1"})
