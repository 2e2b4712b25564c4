"""The queue of asynchronous requests, in memory."""

import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from queue import Full, Queue
from threading import Thread
from urllib.parse import urlsplit

import urllib3

from ..output import Say
from ..runtime.functions import Function
from .proxy import GatewayError, Headers, Proxy, WatchdogError

CAPACITY = 10
"""The maximum number of waiting requests, as in OpenFaaS CE."""
MAX_BODY = 256_000
"""The maximum size of a request's body in bytes."""

_MAX_IN_MEMORY = 1024 * 1024
"""The maximum size in bytes of a response that is kept in memory. A larger one goes to a temporary file."""


@dataclass(frozen=True)
class QueuedRequest:
    function: Function
    method: str
    path: str
    headers: Headers
    body: bytes
    call_id: str
    callback: str | None


class AsyncQueue:
    """A bounded queue with workers. Failed requests are not retried. Queued requests are lost when the stack stops."""

    def __init__(self, proxy: Proxy, workers: int, say: Say) -> None:
        self._proxy, self._say = proxy, say
        self._queue: Queue[QueuedRequest] = Queue(CAPACITY)
        self._callbacks = urllib3.PoolManager(retries=False, timeout=30)
        for _ in range(workers):
            Thread(target=self._work, name="async", daemon=True).start()

    def put(self, request: QueuedRequest) -> None:
        """Add a request. Raise GatewayError if its callback URL is invalid or the queue is full."""
        if request.callback is not None and not _is_http(request.callback):
            message = f"invalid X-Callback-Url {request.callback!r}: expected an http(s) URL"
            raise GatewayError(400, "bad_header", message)
        try:
            self._queue.put_nowait(request)
        except Full:
            message = f"the queue is full: {CAPACITY} requests are waiting"
            raise GatewayError(429, "queue_full", message, {"Retry-After": "5"}) from None

    def _work(self) -> None:
        while True:
            request = self._queue.get()
            try:
                self._invoke(request)
            except Exception as error:  # noqa: BLE001 - the worker must go on with the next request
                self._say(f"async {request.function.spec.name} ({request.call_id}): {error}")

    def _invoke(self, request: QueuedRequest) -> None:
        started_at = time.monotonic()
        with tempfile.SpooledTemporaryFile(_MAX_IN_MEMORY) as result:
            try:
                body = BytesIO(request.body) if request.body else None
                upstream = self._proxy.call(
                    request.function, request.method, request.path, request.headers, body, request.call_id
                )
                with closing(upstream) as response:
                    status, content_type = response.status, dict(response.headers).get("Content-Type", "text/plain")
                    for chunk in response:
                        result.write(chunk)
            except WatchdogError as error:
                status, content_type = error.status, "text/plain"
                result.write(error.body.encode())
            if request.callback is None:
                return
            headers = {
                "Content-Type": content_type,
                "Content-Length": str(result.tell()),
                "X-Call-Id": request.call_id,
                "X-Function-Name": request.function.spec.name,
                "X-Function-Status": str(status),
                "X-Duration-Seconds": f"{time.monotonic() - started_at:.6f}",
            }
            result.seek(0)
            self._callbacks.request("POST", request.callback, body=result, headers=headers)


def _is_http(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False
