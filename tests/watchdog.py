"""A stand-in for of-watchdog and the gateway as far as a response's body is concerned.

Both copy what the function sends, log an error on the way, and end the response as if it were whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import urllib3

from tests.loopback import serving


@contextmanager
def swallowing_proxy(url: str) -> Iterator[str]:
    """Pass GETs on to a function; the proxy's URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            upstream = urllib3.request("GET", url + self.path, preload_content=False, retries=False, timeout=60)
            self.send_response(upstream.status)
            self.send_header("Content-Type", upstream.headers["Content-Type"])
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for chunk in upstream.stream(64 * 1024):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            except urllib3.exceptions.HTTPError:
                pass
            finally:
                upstream.close()
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as proxy_url:
        yield proxy_url
