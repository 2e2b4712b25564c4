"""A proxy before the S3 server that counts what it is asked for, and that may interfere."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import urllib3

from tests.stack import Answer

Intercept = Callable[[str, str], Answer | None]
"""Is called with the kind of a request (LIST, GET, HEAD, PUT …) and its path; what it returns is sent instead."""


@contextmanager
def counting(
    endpoint: str, intercept: Intercept = lambda _kind, _path: None, traffic: Counter[str] | None = None
) -> Iterator[tuple[str, Counter[str]]]:
    """An endpoint that passes everything on to `endpoint`, and the count of LIST, GET, HEAD, PUT, UPLOADS …

    `traffic` gets the bytes of all bodies: those that were sent to S3, and those that were received from it.
    """
    counts: Counter[str] = Counter()
    lock = Lock()
    pool = urllib3.PoolManager(maxsize=64, retries=False, timeout=30)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            kind, path = self.kind(), urlsplit(self.path).path
            with lock:
                counts[kind] += 1
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            response = intercept(kind, path) or self.pass_on(body)
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

        def pass_on(self, body: bytes) -> Answer:
            response = pool.request(
                self.command,
                f"http://{endpoint}{self.path}",
                body=body,
                headers=dict(self.headers),
                redirect=False,
                decode_content=False,
            )
            return Answer(response.status, response.headers, response.data)

        def kind(self) -> str:
            names = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            return "LIST" if "list-type" in names else "UPLOADS" if "uploads" in names else self.command

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = respond  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", counts
    finally:
        server.shutdown()
        server.server_close()
        pool.clear()
