"""The permissions of each function's S3 access key, tested on a real server."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import minio.error
import pytest
from minio import Minio
from minio.deleteobjects import DeleteObject

from infra.local.servers.seaweedfs import s3_client
from tests.stack import Stack

SOURCE, RESULT = "src", "res"
OBJECTS = ("1.csv", "1.png", "1.jpg", "1.jpeg", "1.txt", "output.csv", "rejected.csv", "erased.csv")


def put(client: Minio, bucket: str, key: str) -> None:
    client.put_object(bucket_name=bucket, object_name=key, data=io.BytesIO(b"x"), length=1)


def get(client: Minio, bucket: str, key: str) -> None:
    response = client.get_object(bucket_name=bucket, object_name=key)
    response.close()
    response.release_conn()


def upload(client: Minio, bucket: str, key: str) -> None:
    """Start a multipart upload and abort it."""
    client._abort_multipart_upload(bucket, key, client._create_multipart_upload(bucket, key, {}))


def delete_many(client: Minio, bucket: str, key: str) -> None:
    """Delete with the request that always returns 200 and lists denied keys in its response."""
    for error in client.remove_objects(bucket_name=bucket, delete_object_list=[DeleteObject(key)]):
        raise PermissionError(error.code)


def make_public(client: Minio, bucket: str) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/*"}
    client.set_bucket_policy(bucket_name=bucket, policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


def subresource(method: str, resource: str, **options: Any) -> Callable[..., Any]:
    """Return a function that requests a subresource of a bucket or an object."""
    return lambda client, *location: client._execute(method, *location, query_params={resource: ""}, **options)


BUCKET_OPERATIONS: dict[str, Callable[[Minio, str], Any]] = {
    "list": lambda client, bucket: list(client.list_objects(bucket_name=bucket)),
    "list versions": lambda client, bucket: list(client.list_objects(bucket_name=bucket, include_version=True)),
    "list uploads": lambda client, bucket: client._list_multipart_uploads(bucket),
    "make": lambda client, bucket: client.make_bucket(bucket_name=f"{bucket}-new"),
    "delete": lambda client, bucket: client.remove_bucket(bucket_name=bucket),
    "read policy": subresource("GET", "policy"),
    "write policy": make_public,
    "delete policy": subresource("DELETE", "policy"),
    "read acl": subresource("GET", "acl"),
    "write acl": subresource("PUT", "acl", headers={"x-amz-acl": "public-read"}),
    "read lifecycle": subresource("GET", "lifecycle"),
    "delete lifecycle": subresource("DELETE", "lifecycle"),
    "read versioning": subresource("GET", "versioning"),
    "read location": subresource("GET", "location"),
    "read tags": subresource("GET", "tagging"),
}
OBJECT_OPERATIONS: dict[str, Callable[[Minio, str, str], Any]] = {
    "read": get,
    "read metadata": lambda client, bucket, key: client.stat_object(bucket_name=bucket, object_name=key),
    "write": put,
    "upload": upload,
    "copy": lambda client, bucket, key: client._execute(
        "PUT", bucket, key, headers={"x-amz-copy-source": f"/{SOURCE}/1.txt"}
    ),
    "delete": lambda client, bucket, key: client.remove_object(bucket_name=bucket, object_name=key),
    "delete many": delete_many,
    "read acl": subresource("GET", "acl"),
    "write acl": subresource("PUT", "acl", headers={"x-amz-acl": "public-read"}),
    "read tags": subresource("GET", "tagging"),
    "delete tags": subresource("DELETE", "tagging"),
}

READ, WRITE = ("read", "read metadata"), ("write", "upload")
OUTPUTS = ("output.csv", "rejected.csv", "erased.csv")
CSVS, PHOTOS = ("1.csv", *OUTPUTS), ("1.png", "1.jpg", "1.jpeg")
ALLOWED = {
    "rollcall-process": {
        ("list", SOURCE), ("list", RESULT), ("list uploads", RESULT),
        *((operation, SOURCE, key) for operation in READ for key in CSVS),
        *((operation, RESULT, key) for operation in READ + WRITE for key in OUTPUTS),
    },
    "rollcall-query": {(operation, SOURCE, key) for operation in READ for key in PHOTOS},
}  # fmt: skip


@pytest.fixture
def filled(rollcall: Stack) -> Iterator[Stack]:
    """Yield a stack that has each of `OBJECTS` in both buckets."""
    for bucket in (SOURCE, RESULT):
        for key in OBJECTS:
            put(rollcall.bucket.client, bucket, key)
    yield rollcall
    rollcall.bucket.clear()


def make_client(stack: Stack, identity: str) -> Minio:
    keys = {
        name: (stack.state / f"secrets/{identity}-s3-{secret}-key").read_text(encoding="utf-8")
        for name, secret in (("accessKey", "access"), ("secretKey", "secret"))
    }
    return s3_client(stack.settings["s3_endpoint"], keys)


def succeeds(operation: Callable[..., Any], *arguments: object) -> bool:
    try:
        operation(*arguments)
    except (minio.error.S3Error, PermissionError) as error:
        assert "AccessDenied" in str(error), (error, *arguments)
        return False
    return True


@contextmanager
def temporary_bucket(client: Minio) -> Iterator[str]:
    """Create a bucket. At the end, remove it and the one that the operation "make" creates."""
    client.make_bucket(bucket_name="temporary")
    try:
        yield "temporary"
    finally:
        for bucket in ("temporary", "temporary-new"):
            if client.bucket_exists(bucket_name=bucket):
                client.remove_bucket(bucket_name=bucket)


@pytest.mark.parametrize("identity", ALLOWED)
def test_each_functions_access_key_allows_exactly_the_expected_operations(filled: Stack, identity: str) -> None:
    client = make_client(filled, identity)
    locations = [(bucket,) for bucket in (SOURCE, RESULT)]
    allowed: set[tuple[str, ...]] = {
        (name, *location)
        for location in locations
        for name, operation in BUCKET_OPERATIONS.items()
        if succeeds(operation, client, *location)
    }
    for bucket in (SOURCE, RESULT):
        for key in OBJECTS:
            allowed |= {
                (name, bucket, key)
                for name, operation in OBJECT_OPERATIONS.items()
                if succeeds(operation, client, bucket, key)
            }
    assert allowed == ALLOWED[identity]


def test_the_operator_is_denied_no_operation(filled: Stack) -> None:
    """So the denials above are due to the policies, not to malformed requests."""
    operator = filled.bucket.client
    for name, on_bucket in BUCKET_OPERATIONS.items():
        with temporary_bucket(operator) as bucket:
            try:
                on_bucket(operator, bucket)
            except minio.error.S3Error as error:
                expected = ("NoSuchBucketPolicy", "NoSuchLifecycleConfiguration", "NoSuchTagSet")
                assert error.code in expected, (name, error)
    for name, operation in OBJECT_OPERATIONS.items():
        put(operator, RESULT, "1.txt")
        assert succeeds(operation, operator, RESULT, "1.txt"), name


def test_a_missing_photo_is_distinguished_from_a_denied_one(filled: Stack) -> None:
    with pytest.raises(minio.error.S3Error, match="NoSuchKey"):
        get(make_client(filled, "rollcall-query"), SOURCE, "9.png")
    with pytest.raises(minio.error.S3Error, match="AccessDenied"):
        get(make_client(filled, "rollcall-query"), RESULT, "1.png")
