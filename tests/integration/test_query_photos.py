"""Photos: their content, their source, and errors."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from query_data.application import MAX_PHOTOS
from query_data.shared.process import MEBIBYTE
from urllib3 import HTTPHeaderDict

from tests.queries import add
from tests.replica import query_replica
from tests.s3_proxy import counting
from tests.stack import Response, Stack

PNG, JPEG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2000, b"\xff\xd8\xff" + b"jpeg" * 100_000
LARGE = b"\x89PNG\r\n\x1a\n" + b"".join(n.to_bytes(4) for n in range(2 * MEBIBYTE // 4))  # over 1 MiB, so not buffered


def photo(rollcall: Stack, user_id: str, method: str = "GET", **headers: str) -> Response:
    return rollcall.request(method, f"/function/query-data/photo/{user_id}", b"", **headers)


def test_a_photo_has_its_content_type_and_etag(rollcall: Stack) -> None:
    photos = [("png", PNG), ("jpg", JPEG), ("jpeg", JPEG), ("png", b""), ("png", LARGE)]
    for user_id, (extension, body) in zip("12345", photos, strict=True):
        rollcall.bucket.put_person(user_id)
        rollcall.bucket.put(f"{user_id}.{extension}", body)
    rollcall.process()
    for user_id, (extension, body) in zip("12345", photos, strict=True):
        content_type = "image/png" if extension == "png" else "image/jpeg"
        response = photo(rollcall, user_id)
        assert (response.status, response.headers["Content-Type"], response.body) == (200, content_type, body)
        assert response.headers["Content-Length"] == str(len(body))
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        head = photo(rollcall, user_id, "HEAD")
        assert (head.status, head.body) == (200, b"")
        for name in ("ETag", "Content-Type", "Content-Length"):
            assert head.headers[name] == response.headers[name]
        assert photo(rollcall, user_id, If_None_Match=response.headers["ETag"]).status == 304
    etag = photo(rollcall, "1").headers["ETag"]
    rollcall.bucket.put("1.png", b"another")
    assert photo(rollcall, "1", If_None_Match=etag).body == b"another"


def test_only_a_response_with_a_body_reads_the_object(rollcall: Stack) -> None:
    add(rollcall, "1", photo=True)
    rollcall.bucket.put("1.png", PNG)
    with (
        counting(rollcall.query_settings["s3_endpoint"]) as (endpoint, requests),
        query_replica(rollcall, s3_endpoint=endpoint) as replica,
    ):
        whole, head = (replica.request(method, "/photo/1") for method in ("GET", "HEAD"))
        unchanged = replica.request("GET", "/photo/1", If_None_Match=whole.headers["ETag"])
        changed = replica.request("GET", "/photo/1", If_None_Match='"another"')
    assert dict(head.headers) | {"Date": ""} == dict(whole.headers) | {"Date": ""}
    assert (unchanged.status, unchanged.headers["ETag"]) == (304, whole.headers["ETag"])
    assert whole.body == changed.body == PNG
    assert requests == {"GET": 2, "HEAD": 3}


@pytest.mark.parametrize(
    "img_path",
    [
        "res/output.csv",
        "res/1.png",
        "src/../res/output.csv",
        "src/2.png",
        "src/1.csv",
        "src/a/1.png",
        "1.png",
        "src/1.pngx",
    ],
)
def test_img_path_cannot_expose_other_objects(rollcall: Stack, img_path: str) -> None:
    add(rollcall, "1")
    for key in ("1.png", "2.png", "a/1.png"):
        rollcall.bucket.put(key, PNG)
    rollcall.sql("update users set img_path = :img_path", img_path=img_path)
    response = photo(rollcall, "1")
    assert (response.status, response.json()["error"]["code"]) == (404, "no_photo")


def test_a_missing_photo_is_a_404_in_json(rollcall: Stack) -> None:
    add(rollcall, "1")
    add(rollcall, "2", photo=True)  # in the table, but without an object
    for user_id in ("1", "2", "3"):
        for method in ("GET", "HEAD"):
            response = photo(rollcall, user_id, method)
            assert (response.status, response.headers["Content-Type"]) == (404, "application/json")
        assert photo(rollcall, user_id).json()["error"]["message"] == f"user {user_id} has no photo"


def test_the_photo_endpoint_takes_no_parameters(rollcall: Stack) -> None:
    response = photo(rollcall, "1?size=small")
    assert (response.status, response.json()["error"]["code"]) == (400, "bad_parameter")
    assert response.json()["error"]["message"] == "unknown parameter 'size'; this path has no parameters"


@pytest.mark.parametrize("path", ["x", "1/2", "1.png", "", "..%2f..%2fsrc", "1" * 19, "١"])
def test_a_photo_path_requires_a_valid_user_id(rollcall: Stack, path: str) -> None:
    assert (photo(rollcall, path).status, photo(rollcall, path).json()["error"]["code"]) == (404, "not_found")


def test_the_s3_access_key_of_query_data_cannot_read_the_result_bucket(rollcall: Stack) -> None:
    rollcall.process()
    with query_replica(rollcall, source_bucket="res") as replica:
        rollcall.sql("insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified) "
                 "values ('1', 'A', 'B', 0, 'res/1.png', 'e', now())")  # fmt: skip
        response = replica.request("GET", "/photo/1")
        assert (response.status, response.json()["error"]["code"]) == (503, "s3_access_denied")


def test_an_unavailable_s3_affects_only_photos(rollcall: Stack) -> None:
    add(rollcall, "1", photo=True)
    with query_replica(rollcall, s3_endpoint="127.0.0.1:1", s3_timeout="1") as replica:
        response = replica.request("GET", "/photo/1")
        assert (response.status, response.json()["error"]["code"]) == (503, "s3_unavailable")
        assert replica.request("GET", "/").status == 200
        assert all(line.startswith("{") for line in replica.lines())  # no lines from urllib3 about its retries


def test_a_large_photo_that_is_interrupted_before_its_first_byte_is_a_503(rollcall: Stack) -> None:
    add(rollcall, "1", photo=True)
    headers = {"Content-Length": str(len(LARGE)), "ETag": '"1"', "Last-Modified": "Sat, 28 Nov 2026 12:00:00 GMT"}
    interrupted = Response(200, HTTPHeaderDict(headers | {"Connection": "close"}), b"")
    with (
        counting(rollcall.query_settings["s3_endpoint"], lambda *_: interrupted) as (endpoint, _),
        query_replica(rollcall, s3_endpoint=endpoint) as replica,
    ):
        response = replica.request("GET", "/photo/1")
    assert (response.status, response.json()["error"]["code"]) == (503, "s3_unavailable")


def test_a_silent_s3_affects_only_photos(rollcall: Stack) -> None:
    add(rollcall, "1", photo=True)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        query_replica(rollcall, s3_endpoint=f"127.0.0.1:{silent.getsockname()[1]}", s3_timeout="19") as replica,
        ThreadPoolExecutor(40) as executor,
    ):
        futures = [executor.submit(replica.request, "GET", "/photo/1") for _ in range(40)]
        rollcall.wait_until(lambda: sum(future.done() for future in futures) == 40 - MAX_PHOTOS)
        for path in ("/?limit=1", "/stats", "/metrics", "/openapi.json"):
            assert replica.request("GET", path).status == 200
        replica.process.kill()  # ends the requests that wait for S3
        codes = [future.result().json()["error"]["code"] for future in futures if not future.exception()]
    assert codes == ["busy"] * (40 - MAX_PHOTOS)
