"""Multipart uploads: an export aborts those that killed exports left behind, and S3 errors are detected."""

import pytest
from process_data.shared.storage.errors import Unavailable
from process_data.shared.storage.objects import PART_SIZE

from tests.rows import exported
from tests.runs import application, proxied, run
from tests.s3_proxy import counting
from tests.stack import Response, Stack


def leave_upload(rollcall: Stack, key: str, bucket: str = "res") -> None:
    """Leave an incomplete upload, like an export that is killed after its first part."""
    upload = rollcall.bucket.client._create_multipart_upload(bucket, key, {})
    rollcall.bucket.client._execute(
        "PUT", bucket, key, body=b"x" * 5_242_880, query_params={"partNumber": "1", "uploadId": upload}
    )


def uploads(rollcall: Stack) -> list[str]:
    return sorted(str(upload.object_name) for upload in rollcall.bucket.client._list_multipart_uploads("res").uploads)


def test_uploads_left_by_killed_exports_are_aborted_by_the_next_export(
    rollcall: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    rollcall.bucket.put_person("1")
    for key in ("output.csv", "output.csv", "output.csv.bak"):
        leave_upload(rollcall, key)
    try:
        assert uploads(rollcall) == ["output.csv", "output.csv", "output.csv.bak"]
        with application(rollcall) as app:
            run(app)
        assert '"event": "uploads_aborted", "object": "output.csv", "number": 2' in capsys.readouterr().err
        assert uploads(rollcall) == ["output.csv.bak"]
        assert exported(rollcall) == ["1"]
    finally:
        rollcall.bucket.client._abort_multipart_upload(
            "res", "output.csv.bak", str(rollcall.bucket.client._list_multipart_uploads("res").uploads[0].upload_id)
        )


def test_all_chunks_are_stored_with_the_content_type(rollcall: Stack) -> None:
    chunks = [b"", b"a" * (PART_SIZE - 1), b"", b"bc", b"d" * 100_000]
    with application(rollcall) as app:
        etag = app.objects.put("res", "output.csv", iter(chunks), content_type="text/x-rows; header=present")
        assert app.objects.stat("res", "output.csv") == (etag, PART_SIZE + 100_001)
    assert rollcall.bucket.read("output.csv") == b"".join(chunks)
    stat = rollcall.bucket.client.stat_object(bucket_name="res", object_name="output.csv")
    assert stat.content_type == "text/x-rows; header=present"  # not text/csv, which the server would guess from the key


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented")])
def test_an_export_does_not_require_listing_uploads(
    rollcall: Stack, capsys: pytest.CaptureFixture[str], status: int, code: str
) -> None:
    """The access key may lack the permission, or the S3 service may lack the operation."""

    def fail(kind: str, _path: str) -> Response | None:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        return Response(status, {"Content-Type": "application/xml"}, body) if kind == "UPLOADS" else None

    rollcall.bucket.put_person("1")
    s3 = counting(rollcall.process_settings["s3_endpoint"], fail)
    with s3 as (endpoint, requests), application(rollcall, s3_endpoint=endpoint) as app:
        assert run(app)["output"]["written"]
        assert requests["UPLOADS"] > 0
    [line, *_] = [text for text in capsys.readouterr().err.splitlines() if '"uploads_not_aborted"' in text]
    assert f"{status} {code}" in line
    assert exported(rollcall) == ["1"]


def test_an_error_in_a_200_at_the_completion_of_an_upload_is_detected(rollcall: Stack) -> None:
    """Amazon documents such responses for CompleteMultipartUpload."""

    def fail(kind: str, _path: str) -> Response | None:
        body = b"<Error><Code>InternalError</Code><Message>try again</Message></Error>"
        return Response(200, {"Content-Type": "application/xml"}, body) if kind == "POST" else None

    with proxied(rollcall, fail) as (app, requests):
        with pytest.raises(Unavailable, match="did not complete the upload"):
            app.objects.put("res", "output.csv", [bytes(PART_SIZE), b"more"], content_type="text/csv")
        assert requests["POST"] == 1
        app.objects.abort_uploads("res", "output.csv")


def test_an_error_in_a_200_at_the_start_of_an_upload_is_detected(rollcall: Stack) -> None:
    def fail(kind: str, _path: str) -> Response | None:
        body = b"<Error><Code>InternalError</Code></Error>"
        return Response(200, {"Content-Type": "application/xml"}, body) if kind == "UPLOADS" else None

    with proxied(rollcall, fail) as (app, _), pytest.raises(Unavailable, match="malformed response"):
        app.objects.put("res", "output.csv", [bytes(PART_SIZE), b"more"], content_type="text/csv")


def test_an_export_does_not_require_a_valid_list_of_uploads(rollcall: Stack) -> None:
    def replace(kind: str, _path: str) -> Response | None:
        upload = b"<Upload><Key>output.csv</Key><UploadId>1</UploadId><Initiated>some time ago</Initiated></Upload>"
        body = b"<ListMultipartUploadsResult>" + upload + b"</ListMultipartUploadsResult>"
        return Response(200, {"Content-Type": "application/xml"}, body) if kind == "UPLOADS" else None

    rollcall.bucket.put_person("1")
    with proxied(rollcall, replace) as (app, _):
        assert run(app)["output"]["written"]
