"""The local gateway's calls to functions: their number and their time limit."""

import time
from http.server import BaseHTTPRequestHandler
from threading import Event

import pytest
import urllib3
from process_data.application import MAX_ANONYMOUS, MAX_REQUESTS
from query_data.application import THREADS

from infra.local.config.stack import MAX_REPLICAS
from infra.local.gateway.proxy import MAX_CALLS, TimeLimit, UpstreamResponse
from tests.loopback import Quiet, serving

SILENCE = 60  # seconds


def test_the_functions_limit_requests_before_the_gateway_does() -> None:
    query_requests = THREADS - 4  # the other 4 threads reject requests; query-data has one replica
    assert query_requests + MAX_REPLICAS * (MAX_REQUESTS + MAX_ANONYMOUS) < MAX_CALLS


@pytest.mark.parametrize("sent", [b"first", b""])
def test_the_time_limit_ends_a_response_that_stalls(sent: bytes) -> None:
    finished, errors = Event(), list[Exception]()

    class Silent(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if sent:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(sent), sent))
            finished.wait(SILENCE)

    with serving(Silent) as url:
        started_at = time.monotonic()
        response = urllib3.request("GET", url, preload_content=False, retries=False, timeout=SILENCE)
        limit = TimeLimit("exec_timeout", 0.5, started_at + 0.5)
        upstream = UpstreamResponse(response, [], limit, errors.append)
        assert b"".join(upstream) == sent
        assert time.monotonic() - started_at < SILENCE / 2
        finished.set()
    assert [type(error) for error in errors] == [TimeoutError]
