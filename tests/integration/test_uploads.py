"""Uploads that killed exports left in the result bucket are aborted."""

import pytest

from tests.proxy import counting
from tests.rows import exported
from tests.runs import application, run
from tests.stack import Answer, Stack


def leave_upload(roll: Stack, key: str, bucket: str = "res") -> None:
    """What an export leaves that was killed after its first part."""
    upload = roll.bucket.client._create_multipart_upload(bucket, key, {})
    roll.bucket.client._execute(
        "PUT", bucket, key, body=b"x" * 5_242_880, query_params={"partNumber": "1", "uploadId": upload}
    )


def uploads(roll: Stack) -> list[str]:
    return sorted(str(one.object_name) for one in roll.bucket.client._list_multipart_uploads("res").uploads)


def test_uploads_that_killed_exports_left_are_aborted_by_the_next_export(roll: Stack) -> None:
    roll.bucket.put_person("1")
    for key in ("output.csv", "output.csv", "output.csv.bak"):
        leave_upload(roll, key)
    try:
        assert uploads(roll) == ["output.csv", "output.csv", "output.csv.bak"]
        roll.process()
        assert uploads(roll) == ["output.csv.bak"]
        assert exported(roll) == ["1"]
    finally:
        roll.bucket.client._abort_multipart_upload(
            "res", "output.csv.bak", str(roll.bucket.client._list_multipart_uploads("res").uploads[0].upload_id)
        )


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented")])
def test_an_export_needs_no_list_of_uploads(roll: Stack, status: int, code: str) -> None:
    """A key may lack the right, and a service the operation."""

    def deny(kind: str, _path: str) -> Answer | None:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        return Answer(status, {"Content-Type": "application/xml"}, body) if kind == "UPLOADS" else None

    roll.bucket.put_person("1")
    s3 = counting(roll.process_settings["s3_endpoint"], deny)
    with s3 as (endpoint, asked), application(roll, s3_endpoint=endpoint) as made:
        assert run(made)["output"]["written"]
        assert asked["UPLOADS"] > 0
    assert exported(roll) == ["1"]
