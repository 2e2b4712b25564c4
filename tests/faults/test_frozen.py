"""PostgreSQL's timeouts release the locks of a frozen replica, and the replica cannot write afterwards."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from threading import Event, Thread

import urllib3

from tests.loopback import Quiet, serving
from tests.replica import replica, wait_until_ready
from tests.stack import HANG_TIMEOUT, Stack

TIMEOUT = 60  # seconds: process-data's idle_session_timeout


@contextmanager
def pausing_s3(endpoint: str) -> Iterator[tuple[str, Event, Event]]:
    """Run a proxy for GETs to S3; other methods get 501. It holds back CSVs, and returns the first version of each.

    Yield its endpoint, an event that is set once a CSV has been fetched, and an event that releases the CSVs.
    """
    reached, go = Event(), Event()
    responses: dict[str, urllib3.BaseHTTPResponse] = {}
    pool = urllib3.PoolManager(maxsize=16, retries=False, timeout=HANG_TIMEOUT)

    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            response = pool.request("GET", f"http://{endpoint}{self.path}", headers=dict(self.headers))
            if self.path.endswith(".csv"):
                response = responses.setdefault(self.path, response)  # the request may be repeated after its timeout
                reached.set()
                go.wait(300)
            self.send_response(response.status)
            for name in ("Content-Type", "ETag", "Last-Modified"):
                if name in response.headers:
                    self.send_header(name, response.headers[name])
            self.send_header("Content-Length", str(len(response.data)))
            self.end_headers()
            self.wfile.write(response.data)

    with serving(Handler) as url:
        try:
            yield url.removeprefix("http://"), reached, go
        finally:
            go.set()


def post(url: str, statuses: list[int]) -> None:
    """Send a POST. Append its status to the list, or 0 if there is no response."""
    try:
        statuses.append(urllib3.request("POST", url, timeout=300, retries=False).status)
    except urllib3.exceptions.HTTPError:
        statuses.append(0)


def test_a_frozen_replica_cannot_commit_after_another_has_taken_over_its_work(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1", last="Older")
    statuses: list[int] = []
    with pausing_s3(rollcall.process_settings["s3_endpoint"]) as (endpoint, reached, go):
        settings = rollcall.process_settings | {"s3_endpoint": endpoint, "run_deadline": "20", "s3_timeout": "19"}
        with replica(rollcall.state / "build/process-data", settings) as frozen:
            wait_until_ready(frozen, "/")
            caller = Thread(target=post, args=(frozen.url, statuses))
            caller.start()
            assert reached.wait(HANG_TIMEOUT)
            os.kill(frozen.process.pid, signal.SIGSTOP)
            stopped_at = time.monotonic()
            try:
                rollcall.bucket.put_person("1", last="Newer")
                runs = 0
                while rollcall.sql("select count(*) from users") == [[0]]:
                    summary = rollcall.process()
                    assert summary["status"] == "done" or summary["segments"]["remaining"] == 1
                    runs += 1
                    assert time.monotonic() - stopped_at < 3 * TIMEOUT
                takeover_seconds = time.monotonic() - stopped_at
                go.set()
            finally:
                os.kill(frozen.process.pid, signal.SIGCONT)
            caller.join(HANG_TIMEOUT)
            assert not caller.is_alive()
    assert runs >= 1  # the table was empty at first: the frozen replica had stored nothing
    assert takeover_seconds < 2 * TIMEOUT
    assert statuses[0] in (200, 503)
    assert rollcall.sql("select last_name from users") == [["Newer"]]
    assert rollcall.process()["status"] == "done"
    assert rollcall.sql("select last_name from users") == [["Newer"]]
    assert b"Older" not in rollcall.bucket.read("output.csv")
