"""A proxy for the S3 server that counts requests and may replace responses."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from threading import Lock
from urllib.parse import parse_qs, urlsplit

import urllib3

from tests.loopback import Quiet, serving
from tests.stack import HANG_TIMEOUT, Response

Intercept = Callable[[str, str], Response | None]
"""Called with a request's kind (see `counting`) and path. The response that it returns, if any, replaces S3's."""


@contextmanager
def counting(
    endpoint: str, intercept: Intercept = lambda _kind, _path: None, traffic: Counter[str] | None = None
) -> Iterator[tuple[str, Counter[str]]]:
    """Yield an endpoint that forwards to `endpoint`, and the number of requests by kind.

    A kind is LIST for listings, UPLOADS for requests with `?uploads`, otherwise the method. `traffic` counts the bytes
    of all request and response bodies.
    """
    counts: Counter[str] = Counter()
    lock = Lock()
    pool = urllib3.PoolManager(maxsize=64, retries=False, timeout=HANG_TIMEOUT)

    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            kind, path = self.kind(), urlsplit(self.path).path
            with lock:
                counts[kind] += 1
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            response = intercept(kind, path) or self.forward(body)
            if traffic is not None:
                with lock:
                    traffic.update(sent=len(body), received=len(response.body))
            self.send_response(response.status)
            for name, value in response.headers.items():
                if name.lower() not in ("transfer-encoding", "content-length", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", response.headers.get("Content-Length", str(len(response.body))))
            self.end_headers()
            self.wfile.write(response.body)

        def forward(self, body: bytes) -> Response:
            response = pool.request(
                self.command,
                f"http://{endpoint}{self.path}",
                body=body,
                headers=dict(self.headers),
                redirect=False,
                decode_content=False,
            )
            return Response(response.status, response.headers, response.data)

        def kind(self) -> str:
            names = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            return "LIST" if "list-type" in names else "UPLOADS" if "uploads" in names else self.command

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = respond  # noqa: N815

    try:
        with serving(Handler) as url:
            yield url.removeprefix("http://"), counts
    finally:
        pool.clear()
