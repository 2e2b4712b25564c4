"""What the S3 key of each function may do and nothing else, tried on a real server."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import minio.error
import pytest
from minio import Minio
from minio.deleteobjects import DeleteObject

from infra.local.servers.seaweedfs import s3_client
from tests.stack import Stack

SOURCE, RESULT = "src", "res"
KEYS = ("1.csv", "1.png", "1.jpg", "1.jpeg", "1.txt", "output.csv", "rejected.csv", "erased.csv")
EVERYONE = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{SOURCE}/*"}],
    }
)


def put(client: Minio, bucket: str, key: str) -> None:
    client.put_object(bucket_name=bucket, object_name=key, data=io.BytesIO(b"x"), length=1)


def get(client: Minio, bucket: str, key: str) -> None:
    response = client.get_object(bucket_name=bucket, object_name=key)
    response.close()
    response.release_conn()


def upload(client: Minio, bucket: str, key: str) -> None:
    """In parts, and abort it."""
    client._abort_multipart_upload(bucket, key, client._create_multipart_upload(bucket, key, {}))


def delete_many(client: Minio, bucket: str, key: str) -> None:
    """By the request whose response is 200 in any case and names what was denied."""
    for error in client.remove_objects(bucket_name=bucket, delete_object_list=[DeleteObject(key)]):
        raise PermissionError(error.code)


def sub(method: str, resource: str, **named: Any) -> Callable[..., Any]:
    """A request for a subresource of a bucket or an object."""
    return lambda client, *place: client._execute(method, *place, query_params={resource: ""}, **named)


ON_BUCKETS: dict[str, Callable[[Minio, str], Any]] = {
    "list": lambda client, bucket: list(client.list_objects(bucket_name=bucket)),
    "list versions": lambda client, bucket: list(client.list_objects(bucket_name=bucket, include_version=True)),
    "list uploads": lambda client, bucket: client._list_multipart_uploads(bucket),
    "make": lambda client, bucket: client.make_bucket(bucket_name=f"{bucket}-new"),
    "delete": lambda client, bucket: client.remove_bucket(bucket_name=bucket),
    "read policy": sub("GET", "policy"),
    "write policy": lambda client, bucket: client.set_bucket_policy(bucket_name=bucket, policy=EVERYONE),
    "delete policy": sub("DELETE", "policy"),
    "read acl": sub("GET", "acl"),
    "write acl": sub("PUT", "acl", headers={"x-amz-acl": "public-read"}),
    "read lifecycle": sub("GET", "lifecycle"),
    "delete lifecycle": sub("DELETE", "lifecycle"),
    "read versioning": sub("GET", "versioning"),
    "read location": sub("GET", "location"),
    "read tags": sub("GET", "tagging"),
}
ON_OBJECTS: dict[str, Callable[[Minio, str, str], Any]] = {
    "read": get,
    "read metadata": lambda client, bucket, key: client.stat_object(bucket_name=bucket, object_name=key),
    "write": put,
    "upload": upload,
    "copy": lambda client, bucket, key: client._execute(
        "PUT", bucket, key, headers={"x-amz-copy-source": f"/{SOURCE}/1.txt"}
    ),
    "delete": lambda client, bucket, key: client.remove_object(bucket_name=bucket, object_name=key),
    "delete many": delete_many,
    "read acl": sub("GET", "acl"),
    "write acl": sub("PUT", "acl", headers={"x-amz-acl": "public-read"}),
    "read tags": sub("GET", "tagging"),
    "delete tags": sub("DELETE", "tagging"),
}

READ, WRITE = ("read", "read metadata"), ("write", "upload")
RESULTS = ("output.csv", "rejected.csv", "erased.csv")
CSVS, PHOTOS = ("1.csv", *RESULTS), ("1.png", "1.jpg", "1.jpeg")
MAY = {
    "rollcall-process": {
        ("list", SOURCE), ("list", RESULT), ("list uploads", RESULT),
        *((deed, SOURCE, key) for deed in READ for key in CSVS),
        *((deed, RESULT, key) for deed in READ + WRITE for key in RESULTS),
    },
    "rollcall-query": {(deed, SOURCE, key) for deed in READ for key in PHOTOS},
}  # fmt: skip


@pytest.fixture
def filled(roll: Stack) -> Iterator[Stack]:
    """A stack with an object of each key in both buckets."""
    for bucket in (SOURCE, RESULT):
        for key in KEYS:
            put(roll.bucket.client, bucket, key)
    yield roll
    roll.bucket.clear()


def client(stack: Stack, identity: str) -> Minio:
    keys = {
        name: (stack.state / f"secrets/{identity}-s3-{secret}-key").read_text(encoding="utf-8")
        for name, secret in (("accessKey", "access"), ("secretKey", "secret"))
    }
    return s3_client(stack.settings["s3_endpoint"], keys)


def succeeds(deed: Callable[..., Any], *arguments: object) -> bool:
    try:
        deed(*arguments)
    except (minio.error.S3Error, PermissionError) as error:
        assert "AccessDenied" in str(error), (error, *arguments)
        return False
    return True


@pytest.mark.parametrize("identity", MAY)
def test_each_key_may_do_what_its_function_needs_and_no_more(filled: Stack, identity: str) -> None:
    own = client(filled, identity)
    places = [(bucket,) for bucket in (SOURCE, RESULT)]
    granted: set[tuple[str, ...]] = {
        (name, *place) for place in places for name, deed in ON_BUCKETS.items() if succeeds(deed, own, *place)
    }
    for bucket in (SOURCE, RESULT):
        for key in KEYS:
            granted |= {(name, bucket, key) for name, deed in ON_OBJECTS.items() if succeeds(deed, own, bucket, key)}
    assert granted == MAY[identity]


def test_each_deed_is_one_that_the_server_knows(filled: Stack) -> None:
    """With the operator's key none is denied, so that a denial above says something."""
    operator = filled.bucket.client
    for name, read in ON_BUCKETS.items():
        if name.startswith(("list", "read")):
            try:
                read(operator, SOURCE)
            except minio.error.S3Error as error:
                nothing = ("NoSuchBucketPolicy", "NoSuchLifecycleConfiguration", "NoSuchTagSet")
                assert error.code in nothing, (name, error)
    for name, deed in ON_OBJECTS.items():
        put(operator, RESULT, "1.txt")
        assert succeeds(deed, operator, RESULT, "1.txt"), name


def test_a_photo_that_is_gone_is_told_from_one_that_is_denied(filled: Stack) -> None:
    with pytest.raises(minio.error.S3Error, match="NoSuchKey"):
        get(client(filled, "rollcall-query"), SOURCE, "9.png")
    with pytest.raises(minio.error.S3Error, match="AccessDenied"):
        get(client(filled, "rollcall-query"), SOURCE, "9.csv")
