"""Streams: truncation can be detected, and stalled streams delay no other kind of request."""

import csv
import json
import signal
import subprocess
import time
from collections import Counter
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

import pytest
import urllib3
from query_data.application import MAX_STREAMS, Application
from query_data.query import parse_query
from query_data.settings import Settings
from query_data.shared.process import MEBIBYTE
from query_data.shared.storage.connection import Connection
from query_data.shared.storage.settings import PostgresSettings, load
from query_data.users import Stream

from tests.event import Event
from tests.replica import Replica, query_replica
from tests.stack import HANG_TIMEOUT, Stack

INSERT_MANY = """
insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified)
select n::text, 'First', 'Last', n, 'etag', now() from generate_series(1, 200000) n
"""


@pytest.fixture(scope="module")
def filled(stack: Stack, reset_stack: Any) -> Stack:
    """A stack with 200,000 users, of whom the first has a photo.

    Tests that use it come before those of `replica_with_short_streams`, which replaces the users.
    """
    reset_stack()
    stack.sql(INSERT_MANY)
    stack.sql("update users set img_path = 'src/1.png' where user_id = '1'")
    stack.bucket.put("1.png", bytes(32 * MEBIBYTE))
    return stack


def test_on_sigterm_streams_complete_and_new_requests_are_served(filled: Stack) -> None:
    with query_replica(filled) as replica:
        pool = urllib3.HTTPConnectionPool("127.0.0.1", int(replica.url.rpartition(":")[2]), timeout=HANG_TIMEOUT)
        stream = pool.request("GET", "/", preload_content=False, retries=False)
        body = stream.read(1000)
        for _ in range(3):  # faasd signals all processes, and the watchdog forwards its signal
            replica.process.send_signal(signal.SIGTERM)
            time.sleep(0.6)
            assert replica.request("GET", "/healthz").status == 200
        body += stream.read()
        assert len(json.loads(body)["result"]) == 200_000
        assert replica.wait() == 0


def start(url: str) -> urllib3.BaseHTTPResponse:
    """Send a GET request, and return the response once its headers have arrived."""
    return urllib3.request("GET", url, preload_content=False, retries=False, timeout=HANG_TIMEOUT)


def query_copy_sessions(stack: Stack, expression: str = "count(*)") -> Any:
    """Evaluate an expression over the sessions of query-data's role that run a COPY."""
    activity = "pg_stat_activity where usename = current_user and state = 'active' and query like 'copy%'"
    with Connection(load(PostgresSettings, stack.query_settings)) as connection:
        return connection.run(f"select {expression} from {activity}")[0][0]


def test_a_disconnected_client_frees_the_database_connection(filled: Stack) -> None:
    with query_replica(filled) as replica:
        for _ in range(10):  # each time the server is at another point of the stream
            stream = start(replica.url)
            stream.read(1000)
            assert query_copy_sessions(filled) == 1
            stream.close()
            filled.wait_until(lambda: query_copy_sessions(filled) == 0, seconds=20)
        assert replica.request("GET", "/?limit=1").status == 200
        assert replica.errors() == []


def is_complete(format_name: str, body: bytes) -> bool:
    """Whether a response is complete, by the README's rule for each format."""
    last = body.decode().splitlines()[-1] if body.endswith(b"\n") else ""
    if format_name == "csv":
        return last.startswith(("#end", "#next "))
    try:
        return "next" in json.loads(body if format_name == "json" else last)
    except ValueError:
        return False


@pytest.mark.parametrize("format_name", ["json", "ndjson", "csv"])
def test_a_truncated_stream_can_be_detected_behind_the_gateway(filled: Stack, format_name: str) -> None:
    """Behind OpenFaaS, HTTP shows a truncated response as complete, so only its content shows the truncation."""
    path = f"/function/query-data?format={format_name}"
    complete = filled.request("GET", path).body
    assert is_complete(format_name, complete)
    before = len(interruptions(filled))
    with subprocess.Popen(["curl", "--silent", "--output", "-", filled.url + path], stdout=subprocess.PIPE) as curl:
        assert curl.stdout
        body = curl.stdout.read(1000)
        assert query_copy_sessions(filled, "pg_terminate_backend(pid)")
        body += curl.stdout.read()
    assert curl.returncode == 0  # curl sees no error
    assert not is_complete(format_name, body)
    for cut in (len(complete) - 40, len(complete) - 20, len(complete) - 2):
        assert not is_complete(format_name, complete[:cut])
    filled.wait_until(lambda: len(interruptions(filled)) == before + 1)
    last = interruptions(filled)[-1]
    assert last["call_id"]
    assert "the response was interrupted: " in last["message"]
    assert "Traceback" not in function_log(filled)  # waitress would log one by default


def function_log(stack: Stack) -> str:
    return (stack.state / "logs/query-data.log").read_text()


def interruptions(stack: Stack) -> list[dict[str, Any]]:
    """Return the lines of query-data's log about interrupted responses."""
    lines = function_log(stack).splitlines()
    return [json.loads(line[line.index("{") :]) for line in lines if '"interrupted"' in line]


@pytest.mark.parametrize("path", ["/", "/photo/1"])
def test_stalled_streams_do_not_delay_other_kinds_of_requests(filled: Stack, path: str) -> None:
    with query_replica(filled) as replica, ExitStack() as exits:
        responses = []
        for _ in range(64):
            response = start(replica.url + path)
            exits.callback(response.close)
            responses.append(response)
        statuses = Counter(response.status for response in responses)
        assert statuses == {200: MAX_STREAMS, 503: 64 - MAX_STREAMS}
        [busy] = {response.json()["error"]["code"] for response in responses if response.status == 503}
        assert busy == "busy"
        assert {response.headers["Retry-After"] for response in responses if response.status == 503} == {"1"}
        for other in {"/", "/photo/1", "/healthz", "/?limit=100", "/?user_id=7", "/stats", "/rejected"} - {path}:
            assert replica.request("GET", other).status == 200
        exits.close()
        filled.wait_until(lambda: replica.request("GET", path).status == 200, seconds=20)


def test_a_stream_ends_at_its_deadline_even_if_the_next_rows_are_ready(filled: Stack) -> None:
    application = Application(load(Settings, {**filled.query_settings, "stream_deadline": "1"}))
    with closing(application):
        stream = Stream(application, parse_query(Event("/")), datetime.now(UTC).date())
        chunks = iter(stream)
        assert next(chunks)
        time.sleep(1.1)
        assert next(chunks, None) is None
    assert stream.cursor is not None


@pytest.mark.parametrize(
    ("sort", "format_name"),
    [
        ("user_id", "json"),
        ("-user_id", "ndjson"),
        ("birthdate", "csv"),
        ("-birthdate", "json"),
        ("last_name", "ndjson"),
        ("-last_name", "csv"),
    ],
)
def test_a_stream_at_its_deadline_ends_with_a_link_to_the_rest(
    stack: Stack, replica_with_short_streams: Replica, sort: str, format_name: str
) -> None:
    """All parts together have every person once, in order."""
    all_user_ids: list[str] = []
    url: str | None = f"?sort={sort}&format={format_name}&max_age=150"
    parts = 0
    while url is not None:
        body = read_slowly(f"{replica_with_short_streams.url}/{url}")
        assert is_complete(format_name, body)
        user_ids, url = user_ids_and_next(format_name, body)
        all_user_ids += user_ids
        parts += 1
    assert parts > 1
    read_log = replica_with_short_streams.lines  # each line has the seconds that a whole response took
    stack.wait_until(lambda: any(json.loads(line)["seconds"] >= 1 for line in read_log()), seconds=20)
    direction = "desc" if sort.startswith("-") else "asc"
    key = {"last_name": 'lower(last_name) collate "C"'}.get(sort.removeprefix("-"), sort.removeprefix("-"))
    expected = stack.sql(f"select user_id from users order by {key} {direction}, user_id {direction}")
    assert all_user_ids == [user_id for (user_id,) in expected]


@pytest.fixture(scope="module")
def replica_with_short_streams(reset_stack: Any, stack: Stack) -> Any:
    """Yield query-data with streams that end after a second, and more people than a slow client can read by then."""
    reset_stack()
    names = "case when n % 7 = 0 then '=Łast ' else 'last ' end || n % 5000"
    stack.sql(INSERT_MANY.replace("'Last'", names).replace("200000", "100000"))
    with query_replica(stack, stream_deadline="1") as replica:
        yield replica


def read_slowly(url: str) -> bytes:
    """Read a response, with a pause longer than the stream's deadline."""
    response = start(url)
    body = response.read(1000)
    time.sleep(1.2)
    return body + response.read()


def user_ids_and_next(format_name: str, body: bytes) -> tuple[list[str], str | None]:
    """Return the user_ids of a response and its next link."""
    if format_name == "json":
        content = json.loads(body)
        return [person["user_id"] for person in content["result"]], content["next"]
    *lines, last = body.decode("utf-8-sig").splitlines()
    if format_name == "ndjson":
        return [json.loads(line)["user_id"] for line in lines], json.loads(last)["next"]
    user_ids = [row["user_id"] for row in csv.DictReader(lines)]
    return user_ids, last.removeprefix("#next ") if last.startswith("#next ") else None
