"""S3 responses: removed objects, temporary errors, timeouts, truncated responses and invalid listings."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import pytest
import urllib3
from process_data.shared.storage.errors import ObjectTooLarge, Unavailable
from process_data.shared.storage.objects import PART_SIZE, Object, Objects

from tests.rows import output, snapshot
from tests.runs import counts, proxied, run
from tests.stack import HANG_TIMEOUT, Response, Stack

MODIFIED = "Fri, 27 Nov 2026 22:46:53 GMT"


def get(objects: Objects) -> Object:
    return objects.get("src", "1.csv", limit=10)


def stream(objects: Objects) -> list[bytes]:
    with objects.stream("src", "1.png") as opened:
        return list(opened.chunks)


def etag(objects: Objects) -> str:
    return objects.etag("res", "output.csv")


def test_an_object_removed_after_the_listing_is_skipped(rollcall: Stack) -> None:
    def remove(kind: str, path: str) -> None:
        if (kind, path) == ("GET", "/src/1.csv"):
            rollcall.bucket.remove("1.csv")

    rollcall.bucket.put_person("1")
    rollcall.bucket.put_person("2")
    with proxied(rollcall, remove) as (app, _):
        summary = run(app)
    assert (summary["status"], counts(summary)) == ("done", {"listed": 2, "added": 1})


@pytest.mark.parametrize("kind", ["LIST", "GET", "HEAD", "PUT"])
def test_a_single_503_from_s3_is_retried_without_waiting_for_retry_after(rollcall: Stack, kind: str) -> None:
    failed: list[str] = []
    started_at = time.monotonic()

    def fail(request_kind: str, path: str) -> Response | None:
        if request_kind != kind or failed:
            return None
        failed.append(path)
        return Response(503, {"Retry-After": "40"}, b"")

    rollcall.bucket.put_person("1")
    with proxied(rollcall, fail) as (app, _):
        summary = run(app)
    assert time.monotonic() - started_at < 40
    assert len(failed) == 1
    assert (summary["status"], counts(summary)) == ("done", {"listed": 1, "added": 1})
    assert [row["user_id"] for row in output(rollcall)] == ["1"]
    assert rollcall.sql("select count(*) from runs") == [[1]]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_request_that_s3_fails_to_serve_is_tried_three_times(rollcall: Stack, status: int) -> None:
    with proxied(rollcall, lambda _kind, _path: Response(status, {}, b"")) as (app, requests):
        for read in (get, stream, etag):
            with pytest.raises(Unavailable, match=f"returned {status} .*for (src/1|res/output)"):
                read(app.objects)
        with pytest.raises(Unavailable, match=f"returned {status} for bucket src"):
            app.objects.list_page("src")
    assert requests == {"GET": 6, "HEAD": 3, "LIST": 3}


def test_a_request_that_gets_no_response_is_tried_twice_but_a_multipart_upload_is_started_once(rollcall: Stack) -> None:
    """Starting a multipart upload is not idempotent.

    The first object is sent in a single PUT. The second is larger than a part, so it would be a multipart upload.
    """

    def close(_kind: str, _path: str) -> Response | None:
        raise TimeoutError  # the proxy closes the connection

    with proxied(rollcall, close) as (app, requests):
        for read in (get, stream, etag):
            with pytest.raises(Unavailable, match="cannot be reached"):
                read(app.objects)
        for chunks in ([b"x"], [bytes(PART_SIZE), b"x"]):
            with pytest.raises(Unavailable, match="cannot be reached"):
                app.objects.put("res", "output.csv", chunks, content_type="text/csv")
    assert requests == {"GET": 4, "HEAD": 2, "PUT": 2, "UPLOADS": 1}


def test_an_object_over_the_limit_is_not_read_and_its_connection_not_reused(rollcall: Stack) -> None:
    headers = {"ETag": '"e"', "Last-Modified": MODIFIED}
    with proxied(rollcall, lambda _kind, _path: Response(200, headers, b"x" * 10)) as (app, requests):
        for _ in range(2):
            with pytest.raises(ObjectTooLarge) as raised:
                app.objects.get("src", "1.csv", limit=9)
            assert (raised.value.size, raised.value.etag) == (10, "e")
            assert get(app.objects).body == b"x" * 10
    assert requests == {"GET": 4}
    cut = Response(200, headers | {"Content-Length": "10", "Connection": "close"}, b"")  # reading it raises Unavailable
    with proxied(rollcall, lambda _kind, _path: cut) as (app, _), pytest.raises(ObjectTooLarge):
        app.objects.get("src", "1.csv", limit=9)


def test_a_run_succeeds_if_one_request_gets_no_response(rollcall: Stack) -> None:
    stalled: list[str] = []

    def stall(kind: str, path: str) -> None:
        if kind == "GET" and not stalled:
            stalled.append(path)
            time.sleep(2)

    rollcall.bucket.put_person("1")
    with proxied(rollcall, stall, s3_timeout="1") as (app, requests):
        assert counts(run(app)) == {"listed": 1, "added": 1}
    assert requests["GET"] == 2


def test_connecting_has_its_own_timeout_and_connections_are_reused(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connect timeout is not `s3_timeout`, because connecting to a host that is down is tried three times."""
    connections, barrier = [], Barrier(4)
    connect = urllib3.util.connection.create_connection

    def record_and_connect(address: tuple[str, int], timeout: float, *arguments: Any, **options: Any) -> socket.socket:
        connections.append((f"{address[0]}:{address[1]}", timeout))
        return connect(address, timeout, *arguments, **options)

    def respond(_kind: str, _path: str) -> Response:
        barrier.wait(HANG_TIMEOUT)  # so each request has a connection of its own
        return Response(200, {"ETag": '"e"', "Last-Modified": MODIFIED}, b"")

    monkeypatch.setattr(urllib3.util.connection, "create_connection", record_and_connect)
    with proxied(rollcall, respond, fetch_threads="4", s3_timeout="19") as (app, _), ThreadPoolExecutor(4) as executor:
        for _ in range(2):
            assert list(executor.map(etag, [app.objects] * 4)) == ["e"] * 4
    assert [timeout for endpoint, timeout in connections if endpoint == app.settings.s3_endpoint] == [3] * 4


@pytest.mark.parametrize(
    "headers", [{"ETag": '"e"', "Last-Modified": "Fri, 27 "}, {"ETag": '"e"'}, {"Last-Modified": MODIFIED}]
)
def test_a_response_that_was_cut_within_its_headers_is_an_error(rollcall: Stack, headers: dict[str, str]) -> None:
    """http.client accepts it, and a response to HEAD has no body that could be incomplete."""
    with proxied(rollcall, lambda _kind, _path: Response(200, headers, b"")) as (app, _):
        for read in (get, stream, etag):
            with pytest.raises(Unavailable) as raised:
                read(app.objects)
            assert raised.value.service == "s3"


def test_a_response_that_was_cut_within_its_body_is_an_error(rollcall: Stack) -> None:
    headers = {"ETag": '"e"', "Last-Modified": MODIFIED, "Content-Length": "10", "Connection": "close"}
    with proxied(rollcall, lambda _kind, _path: Response(200, headers, b"body")) as (app, _):
        for read in (get, stream):
            with pytest.raises(Unavailable) as raised:
                read(app.objects)
            assert raised.value.service == "s3"


@pytest.mark.parametrize(
    "body",
    [
        b"<html>welcome to this network</html>",
        b"<ListBucketResult><Contents><Key>1.csv</Key><ETag>e</ETag><Size>x</Size><LastModified>"
        b"2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>",
    ],
)
def test_an_invalid_listing_changes_nothing(rollcall: Stack, body: bytes) -> None:
    def replace(kind: str, _path: str) -> Response | None:
        return Response(200, {"Content-Type": "text/html"}, body) if kind == "LIST" else None

    rollcall.bucket.put_person("1")
    rollcall.bucket.put("1.png", b"photo")
    rollcall.bucket.put("2.csv", b"")
    rollcall.process()
    before = snapshot(rollcall)
    with proxied(rollcall, replace) as (app, _), pytest.raises(Unavailable) as raised:
        run(app)
    assert raised.value.service == "s3"
    assert snapshot(rollcall) == before


def test_a_listing_that_repeats_its_token_is_an_error(rollcall: Stack) -> None:
    """Otherwise the listing would never end."""
    page = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>same</NextContinuationToken></ListBucketResult>"
    )

    def repeat(kind: str, _path: str) -> Response | None:
        return Response(200, {"Content-Type": "application/xml"}, page) if kind == "LIST" else None

    with proxied(rollcall, repeat) as (app, _):
        assert app.objects.list_page("src").token == "same"
        with pytest.raises(Unavailable, match="repeated a continuation token"):
            app.objects.list_page("src", token="same")


def test_a_last_modified_with_the_offset_minus_0000_is_utc(rollcall: Stack) -> None:
    def replace(kind: str, path: str) -> Response | None:
        headers = {"ETag": '"e"', "Last-Modified": "Fri, 27 Nov 2026 22:46:53 -0000"}
        return Response(200, headers, b"body") if (kind, path) == ("GET", "/src/1.csv") else None

    with proxied(rollcall, replace) as (app, _):
        assert app.objects.get("src", "1.csv", limit=10).modified == datetime(2026, 11, 27, 22, 46, 53, tzinfo=UTC)
