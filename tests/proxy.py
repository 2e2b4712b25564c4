"""A proxy before the S3 server that counts what is asked of it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import urllib3


@contextmanager
def counting(endpoint: str) -> Iterator[tuple[str, Counter[str]]]:
    """An endpoint that passes everything on to `endpoint`, and the count of LIST, GET, HEAD, PUT …"""
    counts: Counter[str] = Counter()
    pool = urllib3.PoolManager(maxsize=16, retries=False, timeout=30)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            counts[self.kind()] += 1
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = pool.request(
                self.command, f"http://{endpoint}{self.path}", body=body, headers=dict(self.headers), redirect=False
            )
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("transfer-encoding", "content-length", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.headers.get("Content-Length", str(len(answer.data))))
            self.end_headers()
            self.wfile.write(answer.data)

        def kind(self) -> str:
            url = urlsplit(self.path)
            return "LIST" if "list-type" in parse_qs(url.query) else self.command

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", counts
    finally:
        server.shutdown()
        server.server_close()
        pool.clear()
