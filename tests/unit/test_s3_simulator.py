"""The S3 simulator responds to the real client as S3 does, for the requests that it supports."""

import hashlib
import io
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import urllib3
from minio import Minio
from minio.error import S3Error

from tests.s3_simulator.client import Simulator, simulated_s3
from tests.s3_simulator.source import SourceBucket, csv_body
from tests.stack import HANG_TIMEOUT

PEOPLE, PHOTOS, FIRST_ID = 1_100, 440, 1_000_000_000
PART_SIZE = 8 * 1024 * 1024
KEY_ELEMENTS = re.compile("<Key>(.*?)</Key>")


def key(index: int, suffix: str = "csv") -> str:
    return f"{FIRST_ID + index}.{suffix}"


ALL_KEYS = [
    key(index, suffix)
    for index in range(PEOPLE)
    for suffix in ("csv", "png")
    if suffix == "csv" or index % 5 in (2, 4)  # 440 of 1,100, evenly spread
]


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[Simulator]:
    with simulated_s3(people=PEOPLE, photos=PHOTOS, first_id=FIRST_ID) as simulator:
        yield simulator


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Simulator:
    """The simulator, with failures, delays and counts reset. Changes and uploads of earlier tests remain."""
    shared_simulator.recover()
    shared_simulator.set_latency(0, 0)
    shared_simulator.reset()
    return shared_simulator


@pytest.fixture
def client(simulator: Simulator) -> Iterator[Minio]:
    pool = urllib3.PoolManager(retries=False, timeout=10)
    yield Minio(simulator.endpoint, "key", "secret", secure=False, region="us-east-1", http_client=pool)
    pool.clear()


def list_keys(client: Minio, **arguments: Any) -> list[str]:
    arguments.setdefault("recursive", True)
    return [str(item.object_name) for item in client.list_objects("src", **arguments)]


def read(client: Minio, object_name: str, bucket: str = "src") -> urllib3.BaseHTTPResponse:
    response = client.get_object(bucket, object_name)
    assert response.data is not None
    response.release_conn()
    return response


def page(simulator: Simulator, query: str) -> str:
    url = f"http://{simulator.endpoint}/src?list-type=2&{query}"
    return urllib3.request("GET", url, retries=False, timeout=HANG_TIMEOUT).data.decode()


def test_all_pages_together_list_every_key_once_in_byte_order(simulator: Simulator, client: Minio) -> None:
    assert list_keys(client) == ALL_KEYS == sorted(ALL_KEYS)
    assert list_keys(client) == ALL_KEYS  # from the simulator's cache
    assert simulator.counts() == {"LIST": 4, "GET": 0, "HEAD": 0, "PUT": 0}


@pytest.mark.parametrize(
    "start",
    [
        *["", "0", "1", "10", "2", "9", "z", "é", ".", "12-", "1000000", "100000000.", "100000000/", "100000000:"],
        *[f"{FIRST_ID + 7}{end}" for end in ("", "-", ".", ".csv", ".csv0", ".jpg", ".png", ".pngx", "0", "0.csv")],
        *[key(-1), key(0), key(PEOPLE - 1), key(PEOPLE - 1, "png"), key(PEOPLE), "0999999999.csv", "9999999999.csv"],
    ],
)
def test_start_after_may_be_any_text(simulator: Simulator, start: str) -> None:
    expected = [name for name in ALL_KEYS if name.encode() > start.encode()]
    assert KEY_ELEMENTS.findall(page(simulator, f"start-after={quote(start)}")) == expected[:1000]


def test_a_listing_after_a_key_continues_through_all_pages(client: Minio) -> None:
    assert list_keys(client, start_after=key(70)) == ALL_KEYS[ALL_KEYS.index(key(70)) + 1 :]


def test_a_continuation_token_continues_after_its_page(simulator: Simulator) -> None:
    query = f"start-after={key(4)}&prefix=1000000&max-keys=3"
    xml = page(simulator, query)
    assert KEY_ELEMENTS.findall(xml) == [key(4, "png"), key(5), key(6)]
    token = quote(xml.partition("<NextContinuationToken>")[2].partition("<")[0])
    assert KEY_ELEMENTS.findall(page(simulator, f"{query}&continuation-token={token}")) == [
        key(7),
        key(7, "png"),
        key(8),
    ]


@pytest.mark.parametrize("prefix", ["1", "100000123", key(7)[:-3], key(7), key(2, "png"), key(1099)[:-4], "2", "1x"])
@pytest.mark.parametrize("start", ["", key(7), "5"])
def test_a_listing_has_exactly_the_keys_with_the_prefix(client: Minio, prefix: str, start: str) -> None:
    expected = [name for name in ALL_KEYS if name.startswith(prefix) and name > start]
    assert list_keys(client, prefix=prefix, start_after=start) == expected


@pytest.mark.parametrize(("people", "photos", "first_id"), [(0, 0, 5), (1, 0, 0), (1, 1, 9), (7, 7, 10), (90, 31, 10)])
def test_positions_match_the_keys(people: int, photos: int, first_id: int) -> None:
    bucket = SourceBucket(people, photos, first_id)
    keys = [bucket.key_at(position) for position in range(people + photos)]
    assert keys == sorted(keys)
    assert [sum(name.endswith(suffix) for name in keys) for suffix in (".csv", ".png")] == [people, photos]
    for position, name in enumerate(keys):
        assert bucket.position(name.encode()) == position
        assert bucket.position(name.encode(), after=True) == position + 1
        assert len(bucket.entries(position, people + photos)) == people + photos - position


def test_a_delimiter_does_not_change_the_keys(client: Minio) -> None:
    assert list_keys(client, recursive=False, prefix="10000000") == list_keys(client, prefix="10000000")


def test_a_page_has_the_fields_of_list_bucket_result(simulator: Simulator) -> None:
    xml = page(simulator, "max-keys=2&prefix=1000&encoding-type=url&delimiter=%2F")
    assert '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>src</Name>' in xml
    assert "<Prefix>1000</Prefix><Delimiter>/</Delimiter><EncodingType>url</EncodingType>" in xml
    assert "<KeyCount>2</KeyCount><MaxKeys>2</MaxKeys><IsTruncated>true</IsTruncated><NextContinuationToken>" in xml
    assert xml.count("<Contents>") == 2
    assert "<Prefix>a%26/b%FF</Prefix>" in page(simulator, "prefix=a%26/b%FF&encoding-type=url")
    assert "<Prefix>a&amp;b</Prefix>" in page(simulator, "prefix=a%26b")
    assert page(simulator, "max-keys=5000").count("<Contents>") == 1000
    assert "InvalidArgument" in page(simulator, "max-keys=-1")
    assert "NotImplemented" in page(simulator, "delimiter=.")


def test_an_object_matches_the_listing(client: Minio) -> None:
    item, photo = client.list_objects("src", prefix=key(4)[:-3])
    response = read(client, key(4))
    stat = client.stat_object("src", key(4))
    assert response.data == csv_body(FIRST_ID + 4)
    assert response.headers["ETag"] == f'"{item.etag}"' == f'"{stat.etag}"'
    assert int(response.headers["Content-Length"]) == item.size == stat.size == len(response.data)
    assert item.last_modified == stat.last_modified
    image = read(client, key(4, "png"))
    assert image.data.startswith(b"\x89PNG")
    assert image.headers["ETag"] == f'"{photo.etag}"' != f'"{item.etag}"'
    assert len(image.data) == photo.size


@pytest.mark.parametrize("name", [key(-1), key(PEOPLE), key(0, "png"), key(0, "jpg"), "1.csv", "x.csv", "0" + key(0)])
def test_requests_for_unknown_keys_get_no_such_key(client: Minio, name: str) -> None:
    for request in (client.get_object, client.stat_object):
        with pytest.raises(S3Error) as raised:
            request("src", name)
        assert raised.value.code == "NoSuchKey"


def test_a_changed_csv_has_new_content_and_a_new_etag(simulator: Simulator, client: Minio) -> None:
    before = {item.object_name: item.etag for item in client.list_objects("src")}
    simulator.change(100, 20)
    simulator.change(110, 5)
    after = {item.object_name: item.etag for item in client.list_objects("src")}
    assert [name for name in ALL_KEYS if before[name] != after[name]] == [key(index) for index in range(100, 120)]
    assert len(set(after.values())) == len(ALL_KEYS)
    for index, version in ((99, 0), (109, 1), (110, 2)):
        response = read(client, key(index))
        assert response.data == csv_body(FIRST_ID + index, version)
        assert response.headers["ETag"] == f'"{after[key(index)]}"'
    assert len({csv_body(FIRST_ID, version) for version in range(3)}) == 3
    with pytest.raises(ValueError, match="invalid range of 2 users"):
        simulator.change(PEOPLE - 1, 2)


def test_objects_fail_until_recover_is_called(simulator: Simulator, client: Minio) -> None:
    simulator.fail(3, 1)
    simulator.fail(5, 2)
    for index in (3, 5, 6):
        with pytest.raises(S3Error, match="InternalError"):
            client.get_object("src", key(index))
    assert read(client, key(4)).status == read(client, key(7)).status == 200
    simulator.recover()
    assert read(client, key(5)).status == 200
    assert simulator.counts() == {"LIST": 0, "GET": 6, "HEAD": 0, "PUT": 0}


def test_responses_are_delayed(simulator: Simulator, client: Minio) -> None:
    simulator.set_latency(0.05, 0.1)
    started_at = time.monotonic()
    page(simulator, "max-keys=1")
    listed_at = time.monotonic()
    read(client, key(0))
    assert listed_at - started_at >= 0.05
    assert time.monotonic() - listed_at >= 0.1


def test_cpu_time_is_measured(simulator: Simulator) -> None:
    assert simulator.cpu_seconds() > 0


def test_small_objects_are_stored(simulator: Simulator, client: Minio) -> None:
    for content in (b"first", b"", b"second" * 100_000):
        result = client.put_object("res", "a folder/output.csv", io.BytesIO(content), -1, part_size=PART_SIZE)
        stat = client.stat_object("res", "a folder/output.csv")
        assert result.etag == stat.etag == hashlib.md5(content).hexdigest()
        assert stat.size == len(content)
        assert read(client, "a folder/output.csv", "res").data == content
    assert simulator.counts() == {"LIST": 0, "GET": 3, "HEAD": 3, "PUT": 3}
    with pytest.raises(S3Error, match="NoSuchKey"):
        client.stat_object("res", "other.csv")


@pytest.mark.parametrize("parallel", [1, 3])
def test_large_objects_are_uploaded_in_parts(simulator: Simulator, client: Minio, parallel: int) -> None:
    content = bytes(range(256)) * 80_000  # 20 MB
    result = client.put_object(
        "res", "large.csv", io.BytesIO(content), -1, part_size=PART_SIZE, num_parallel_uploads=parallel
    )
    stat = client.stat_object("res", "large.csv")
    digests = b"".join(
        hashlib.md5(content[start : start + PART_SIZE]).digest() for start in range(0, len(content), PART_SIZE)
    )
    assert result.etag == stat.etag == f"{hashlib.md5(digests).hexdigest()}-3"
    assert stat.size == len(content)
    assert simulator.counts()["PUT"] == 3


def test_incomplete_uploads_are_listed_until_they_are_aborted(client: Minio) -> None:
    upload_id = client._create_multipart_upload("res", "cut.csv", {})
    client._upload_part("res", "cut.csv", b"part", None, upload_id, 1)
    uploads = client._list_multipart_uploads("res").uploads
    assert [(upload.object_name, upload.upload_id) for upload in uploads] == [("cut.csv", upload_id)]
    client._abort_multipart_upload("res", "cut.csv", upload_id)
    assert not client._list_multipart_uploads("res").uploads
    with pytest.raises(S3Error, match="NoSuchUpload"):
        client._upload_part("res", "cut.csv", b"part", None, upload_id, 1)
    with pytest.raises(S3Error, match="NoSuchKey"):
        client.stat_object("res", "cut.csv")


def test_requests_that_the_simulator_does_not_support_are_errors(client: Minio) -> None:
    with pytest.raises(S3Error, match="NotImplemented"):
        client.put_object("src", "1.csv", io.BytesIO(b"x"), 1)
    with pytest.raises(S3Error, match="NoSuchBucket"):
        client.get_object("other", "1.csv")


@pytest.mark.parametrize(("people", "photos", "first_id"), [(1, 2, 1), (2, 0, 9), (1, 0, 10**18)])
def test_invalid_numbers_of_objects_and_first_ids_are_errors(people: int, photos: int, first_id: int) -> None:
    with pytest.raises(ValueError, match=r"invalid (photos|first_id)"):
        SourceBucket(people, photos, first_id)
