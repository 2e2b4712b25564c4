"""Requests that are answered later: a short queue in memory, worked off by as many as there are replicas."""

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from queue import Full, Queue
from threading import Thread
from urllib.parse import urlsplit

import urllib3

from .functions import Function
from .proxy import GatewayError, Headers, Proxy, WatchdogError

LENGTH = 10
"""Requests that may wait."""
LARGEST = 256 * 1024
"""Bytes of a request's body."""

_IN_MEMORY = 1024 * 1024


@dataclass(frozen=True)
class Later:
    """A request that waits."""

    function: Function
    method: str
    path: str
    headers: Headers
    body: bytes
    call_id: str
    callback: str | None


class AsyncQueue:
    """Nothing is retried, and what waits when the stack stops is lost."""

    def __init__(self, proxy: Proxy, workers: int, say: Callable[[str], None]) -> None:
        self._proxy, self._say = proxy, say
        self._waiting: Queue[Later] = Queue(LENGTH)
        self._callbacks = urllib3.PoolManager(retries=False, timeout=30)
        for _ in range(workers):
            Thread(target=self._work, name="async", daemon=True).start()

    def put(self, later: Later) -> None:
        if later.callback is not None and urlsplit(later.callback).scheme not in ("http", "https"):
            raise GatewayError(400, "bad_header", f"X-Callback-Url: {later.callback!r} is not allowed: an http(s) URL")
        try:
            self._waiting.put_nowait(later)
        except Full:
            message = f"{LENGTH} requests are waiting already; no more fit"
            raise GatewayError(429, "queue_full", message, {"Retry-After": "5"}) from None

    def _work(self) -> None:
        while True:
            later = self._waiting.get()
            try:
                self._invoke(later)
            except Exception as error:  # noqa: BLE001 - the next one in the queue must have its turn
                self._say(f"async {later.function.spec.name} ({later.call_id}): {error}")

    def _invoke(self, later: Later) -> None:
        began = time.monotonic()
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as result:
            try:
                body = BytesIO(later.body) if later.body else None
                called = self._proxy.call(later.function, later.method, later.path, later.headers, body, later.call_id)
                with closing(called) as response:
                    status, kind = response.status, dict(response.headers).get("Content-Type", "text/plain")
                    for chunk in response:
                        result.write(chunk)
            except WatchdogError as error:
                status, kind = error.status, "text/plain"
                result.write(error.body.encode())
            if later.callback is None:
                return
            headers = {
                "Content-Type": kind,
                "Content-Length": str(result.tell()),
                "X-Call-Id": later.call_id,
                "X-Function-Name": later.function.spec.name,
                "X-Function-Status": str(status),
                "X-Duration-Seconds": f"{time.monotonic() - began:.6f}",
            }
            result.seek(0)
            self._callbacks.request("POST", later.callback, body=result, headers=headers)
