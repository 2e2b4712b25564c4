"""A stub for the part of OpenFaaS's gateway that process-data uses: the queue of asynchronous requests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import count

from tests.loopback import Quiet, serving


@contextmanager
def serving_gateway(enqueue: Callable[[str, str | None], int]) -> Iterator[str]:
    """Serve until the end of the block. Yield the URL.

    `enqueue` is called with the path and the Authorization header of each POST, and returns the status.
    """
    calls = count(1)

    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(enqueue(self.path, self.headers.get("Authorization")))
            self.send_header("X-Call-Id", f"call {next(calls)}")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler) as url:
        yield url
