"""Erasing people: nothing of them is left, and nothing but a newer file brings them back."""

import csv
import io
import json
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from process_data.application import Application
from process_data.erase import EraseRun
from process_data.request import Request
from process_data.runs import Trigger
from process_data.shared.storage.objects import Object, Objects

from tests.postgres import client_environment
from tests.proxy import counting
from tests.runs import Paused, application, run
from tests.stack import Answer, Stack

NEW_SECOND = 1.1  # seconds after which S3's Last-Modified is another


def erase(roll: Stack, *user_ids: str) -> dict[str, Any]:
    answer = roll.request("POST", "/function/process-data/erase?" + "&".join(f"user_id={one}" for one in user_ids))
    assert answer.status == 200, answer.body
    summary: dict[str, Any] = answer.json()
    return summary


def erase_in(made: Application, *user_ids: str) -> dict[str, Any]:
    request = Request(Trigger.HTTP, objects=tuple(f"{one}.csv" for one in user_ids), erase=True)
    return EraseRun(made, request).execute()


def rows(roll: Stack, table: str = "users", column: str = "user_id") -> list[str]:
    return [value for (value,) in roll.sql(f"select {column} from {table} order by {column}")]


def mirrored(roll: Stack, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(roll.bucket.read(name).decode())))


def exported(roll: Stack) -> list[str]:
    return [row["user_id"] for row in mirrored(roll, "output.csv")]


def modified(roll: Stack, key: str) -> str:
    found = roll.bucket.client.stat_object(bucket_name="src", object_name=key)
    return f"{found.last_modified:%Y-%m-%d %H:%M:%S}+00"


def test_nothing_of_an_erased_person_is_left_but_the_tombstone(roll: Stack) -> None:
    for user_id in ("1", "2", "3"):
        roll.bucket.put_person(user_id, first=f"Secret{user_id}")
    roll.bucket.put("2.png", b"photo")
    roll.process()
    roll.bucket.put("2.csv", b"first_name,last_name,birthts\nSecret2,Hopper,Secret2\n")
    roll.bucket.put("3.csv", b"first_name,last_name,birthts\nSecret3,Hopper,Secret3\n")
    assert roll.process()["rejected"] == 2
    roll.sql("insert into hints values ('2.csv', 0)")
    summary = erase(roll, "2")
    assert (summary["status"], summary["trigger"]) == ("done", "http")
    assert (summary["erased"], summary["not_found"], summary["remaining"]) == (["2"], [], [])
    assert summary["output"] == {"object": "res/output.csv", "rows": 2, "written": True, "pending": False}
    assert set(summary["seconds"]) == {"erase", "export", "total"}
    assert rows(roll) == ["1", "3"]
    assert rows(roll, "rejected", "object") == ["3.csv"]
    assert rows(roll, "hints", "object") == []
    assert exported(roll) == ["1", "3"]
    assert [row["object"] for row in mirrored(roll, "rejected.csv")] == ["3.csv"]
    [tombstone] = mirrored(roll, "erased.csv")
    assert (tombstone["user_id"], tombstone["csv_modified"]) == ("2", modified(roll, "2.csv"))
    tables = [name for (name,) in roll.sql("select tablename from pg_tables where schemaname = 'public'")]
    for table in tables:
        [[found]] = roll.sql(f"select count(*) from {table} as one where one::text like '%Secret2%'")
        assert found == 0, table
    for name in ("output.csv", "rejected.csv", "erased.csv"):
        assert b"Secret2" not in roll.bucket.read(name)


def test_an_erasure_is_recorded_by_counts_alone(roll: Stack) -> None:
    roll.bucket.put_person("4711")
    roll.process()
    summary = erase(roll, "4711", "4712")
    [[trigger, scope, status, recorded]] = roll.sql(
        "select trigger, scope, status, summary from runs where id = :id", id=summary["run_id"]
    )
    assert (trigger, scope, status) == ("http", "users", "done")
    assert (recorded["erased"], recorded["not_found"], recorded["remaining"]) == (1, 1, 0)
    assert "4711" not in json.dumps(recorded)
    logged = (roll.state / "logs/process-data.log").read_text(encoding="utf-8").splitlines()
    [line] = [one for one in logged if f'"run_id": {summary["run_id"]},' in one][-1:]
    assert '"erased": 1' in line
    assert '"4711"' not in line


def test_the_file_that_is_still_there_brings_nobody_back(roll: Stack) -> None:
    for user_id in ("1", "2"):
        roll.bucket.put_person(user_id)
    roll.bucket.put("1.png", b"photo")
    roll.process()
    erase(roll, "1")
    s3 = counting(roll.process_settings["s3_endpoint"])
    with s3 as (endpoint, asked), application(roll, s3_endpoint=endpoint) as made:
        assert run(made)["added"] == 0
        assert run(made, objects=["1.csv"])["added"] == 0
        assert run(made, Trigger.EVENT, objects=["1.csv"])["added"] == 0
        assert asked["GET"] == 0  # and it costs nothing
    assert rows(roll) == ["2"]
    assert exported(roll) == ["2"]


def test_a_newer_file_brings_the_person_back_also_with_the_same_content(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    erase(roll, "1")
    time.sleep(NEW_SECOND)
    roll.bucket.put_person("1")
    assert roll.process()["added"] == 1
    assert rows(roll) == ["1"]
    assert rows(roll, "erased") == []
    assert exported(roll) == ["1"]
    assert mirrored(roll, "erased.csv") == []


def test_an_older_file_brings_nobody_back_whatever_its_etag(roll: Stack) -> None:
    """As when a version of a versioned bucket is restored: another content, and not newer."""
    roll.bucket.put_person("1")
    roll.process()
    erase(roll, "1")
    time.sleep(NEW_SECOND)
    roll.bucket.put_person("1", first="Restored")
    roll.sql("update erased set csv_modified = cast(:modified as timestamptz)", modified=modified(roll, "1.csv"))
    assert roll.process()["added"] == 0  # equal is not newer
    roll.bucket.put("1.csv", b"first_name,last_name,birthts\nSecret,Hopper,Secret\n")
    roll.sql("update erased set csv_modified = csv_modified + interval '1 hour'")
    assert roll.process()["rejected"] == 0
    roll.bucket.put("1.csv", b"x" * 70_000)
    assert roll.process()["rejected"] == 0
    assert rows(roll) == []
    assert rows(roll, "rejected", "object") == []


class Replaced(Objects):
    """S3 whose object is replaced by an older one between the listing and the GET."""

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        fetched = super().get(bucket, key, limit=limit)
        return Object(fetched.body, fetched.etag, fetched.modified.replace(year=2000))


@pytest.mark.parametrize("content", [b"first_name,last_name,birthts\nAda,Lovelace,0\n", b"wrong\n"])
def test_what_is_fetched_counts_and_not_what_was_listed(roll: Stack, content: bytes) -> None:
    roll.bucket.put_person("1")
    roll.process()
    erase(roll, "1")
    time.sleep(NEW_SECOND)
    roll.bucket.put("1.csv", content)
    with application(roll, Replaced) as made:
        summary = run(made)
    assert (summary["added"], summary["rejected"]) == (0, 0)
    assert rows(roll) == []


def test_a_newer_file_that_is_rejected_leaves_the_tombstone(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    erase(roll, "1")
    time.sleep(NEW_SECOND)
    roll.bucket.put("1.csv", b"wrong\n")
    assert roll.process()["rejected"] == 1
    assert rows(roll, "erased") == ["1"]
    roll.bucket.put_person("1")
    assert roll.process()["added"] == 1
    assert rows(roll, "erased") == []


def test_whoever_had_no_file_comes_back_with_any(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    roll.bucket.remove("1.csv")
    roll.bucket.put("unrelated", b"")  # the bucket is not empty
    roll.process()
    summary = erase(roll, "1")
    assert (summary["erased"], summary["not_found"]) == (["1"], [])
    assert roll.sql("select csv_modified from erased") == [[None]]
    roll.bucket.put_person("1")
    assert roll.process()["added"] == 1


def test_who_is_not_found_gets_a_tombstone_all_the_same(roll: Stack) -> None:
    """A dump may have them, and the erasure holds for that too."""
    summary = erase(roll, "1")
    assert (summary["status"], summary["erased"], summary["not_found"]) == ("done", [], ["1"])
    assert rows(roll, "erased") == ["1"]
    assert [row["user_id"] for row in mirrored(roll, "erased.csv")] == ["1"]


def test_erasing_again_is_no_work_and_tells_the_same(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    assert erase(roll, "1")["erased"] == ["1"]
    roll.bucket.remove("1.csv")
    assert erase(roll, "1")["erased"] == ["1"]  # the tombstone now has no file
    before = roll.sql("select object, changed from outputs order by object"), roll.sql("select * from erased")
    again = erase(roll, "1")
    assert (again["erased"], again["not_found"], again["output"]["written"]) == (["1"], [], False)
    assert (roll.sql("select object, changed from outputs order by object"), roll.sql("select * from erased")) == before


def test_a_file_that_was_not_scanned_yet_is_part_of_what_is_erased(roll: Stack) -> None:
    roll.bucket.put_person("1")
    assert erase(roll, "1")["erased"] == ["1"]
    assert roll.process()["added"] == 0


def test_people_are_erased_also_from_a_bucket_that_was_emptied(roll: Stack) -> None:
    """Hints of others are left to a run that may ask whether the bucket is meant to be empty."""
    for user_id in ("1", "2"):
        roll.bucket.put_person(user_id)
    roll.process()
    for user_id in ("1", "2"):
        roll.bucket.remove(f"{user_id}.csv")
    roll.sql("insert into hints values ('1.csv', 0), ('2.csv', 0)")
    assert erase(roll, "1")["status"] == "done"
    assert rows(roll, "hints", "object") == ["2.csv"]
    assert exported(roll) == ["2"]


def test_a_thousand_people_are_erased_by_one_request(roll: Stack) -> None:
    users = [f"{number:04}" for number in range(1000)]
    with ThreadPoolExecutor(16) as executor:
        list(executor.map(roll.bucket.put_person, [*users, "2000"]))
    with application(roll, segment_keys="100") as made:
        run(made)
        assert len(rows(roll, "segments", "start")) > 5
        summary = erase_in(made, *users)
    assert (summary["status"], len(summary["erased"])) == ("done", 1000)
    assert exported(roll) == ["2000"]


@pytest.mark.parametrize(
    ("path", "method", "body", "expected"),
    [
        ("", "POST", b"", (400, "bad_parameter")),
        ("?user_id=", "POST", b"", (400, "bad_parameter")),
        ("?user_id=x", "POST", b"", (400, "bad_parameter")),
        ("?user_id=1&fan_out=2", "POST", b"", (400, "bad_parameter")),
        ("?user_id=1", "POST", b"{}", (400, "bad_body")),
        ("?user_id=1", "GET", b"", (405, "method_not_allowed")),
        ("?" + "&".join(f"user_id={number}" for number in range(1001)), "POST", b"", (413, "too_many_users")),
    ],
)
def test_what_is_no_erasure_is_an_error(
    roll: Stack, path: str, method: str, body: bytes, expected: tuple[int, str]
) -> None:
    roll.bucket.put_person("1")
    roll.process()
    answer = roll.request(method, f"/function/process-data/erase{path}", body)
    assert (answer.status, answer.json()["error"]["code"]) == expected
    assert rows(roll) == ["1"]


def test_a_scan_that_has_read_the_file_stores_nobody_who_was_erased_meanwhile(roll: Stack) -> None:
    """The erasure waits for the segment, and erases what the scan has stored."""
    roll.bucket.put_person("1")
    with application(roll, Paused) as made, ThreadPoolExecutor(2) as executor:
        assert isinstance(made.objects, Paused)
        scanning = executor.submit(run, made)
        assert made.objects.reached.wait(30)
        erasing = executor.submit(erase, roll, "1")
        time.sleep(0.5)
        assert not erasing.done()
        made.objects.go.set()
        assert scanning.result()["added"] == 1
        assert erasing.result()["erased"] == ["1"]
    assert rows(roll) == []
    assert exported(roll) == []


def test_an_erasure_that_gets_no_segment_says_who_is_left(roll: Stack) -> None:
    for user_id in ("1", "2"):
        roll.bucket.put_person(user_id)
    with application(roll, Paused) as made, application(roll, run_deadline="2") as other:
        assert isinstance(made.objects, Paused)
        thread = threading.Thread(target=run, args=(made,))
        thread.start()
        assert made.objects.reached.wait(30)
        summary = erase_in(other, "1")
        made.objects.go.set()
        thread.join()
    assert (summary["status"], summary["erased"], summary["remaining"]) == ("partial", [], ["1"])
    assert rows(roll) == ["1", "2"]


class Uploading(Objects):
    """S3 that gets a file and its event while an erasure reads the Last-Modified of another."""

    upload: Callable[[], None]

    def modified(self, bucket: str, key: str) -> Any:
        type(self).upload()
        return super().modified(bucket, key)


def test_an_event_that_found_the_segment_held_by_an_erasure_is_not_lost(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()

    def upload() -> None:
        roll.bucket.put_person("2")
        assert roll.event("2.csv").json()["status"] == "partial"

    Uploading.upload = staticmethod(upload)
    with application(roll, Uploading) as made:
        erase_in(made, "1")
    assert rows(roll) == ["2"]
    assert exported(roll) == ["2"]


def dump(roll: Stack, path: Path) -> None:
    command = ["pg_dump", "--format", "custom", "--file", str(path)]
    subprocess.run(command, env=client_environment(roll.process_settings), check=True, capture_output=True, timeout=60)


def restore(roll: Stack, path: Path) -> None:
    environment = client_environment(roll.process_settings)
    options = ["--clean", "--if-exists", "--single-transaction", "--exit-on-error"]
    command = ["pg_restore", *options, "--dbname", environment["PGDATABASE"], str(path)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("first", ["bucket", "users", "event", "erase"])
def test_a_restored_dump_brings_nobody_back(roll: Stack, tmp_path: Path, first: str) -> None:
    """Whatever runs first: output.csv is never written with them, and erased.csv never without them."""
    for user_id in ("1", "2", "3", "4"):
        roll.bucket.put_person(user_id)
    roll.process()
    erase(roll, "4")
    dump(roll, tmp_path / "dump")
    roll.bucket.remove("2.csv")
    erase(roll, "1", "2")
    before = mirrored(roll, "erased.csv")
    restore(roll, tmp_path / "dump")
    assert rows(roll) == ["1", "2", "3"]
    if first == "bucket":
        roll.process()
    elif first == "users":
        roll.process("?user_id=3")
    elif first == "event":
        assert roll.event("3.csv").status == 200
    else:
        erase(roll, "4")
    assert rows(roll) == ["3"]
    assert exported(roll) == ["3"]
    assert mirrored(roll, "erased.csv") == before
    roll.process()
    assert rows(roll) == ["3"]


def test_nothing_is_exported_before_lost_tombstones_were_applied(roll: Stack, tmp_path: Path) -> None:
    for user_id in ("1", "2"):
        roll.bucket.put_person(user_id)
    roll.process()
    dump(roll, tmp_path / "dump")
    erase(roll, "1")
    before = roll.bucket.read("output.csv"), roll.bucket.read("erased.csv")
    restore(roll, tmp_path / "dump")
    roll.bucket.put_person("2", first="Changed")

    class Broken(Objects):
        """S3 that loses the tombstones half way."""

        def stream(self, bucket: str, key: str) -> Any:
            return super().stream(bucket, f"no-{key}")

    with application(roll, Broken) as made:
        summary = run(made)
    assert (summary["status"], summary["output"]["pending"]) == ("partial", True)
    assert (roll.bucket.read("output.csv"), roll.bucket.read("erased.csv")) == before
    roll.process()
    assert exported(roll) == ["2"]


def test_many_lost_tombstones_are_applied_in_batches_and_odd_lines_are_skipped(roll: Stack) -> None:
    roll.bucket.put_person("0")
    roll.process()
    lines = [f"{number},2026-01-01 00:00:00+00,{'2126-01-01 00:00:00+00' if number else ''}" for number in range(2500)]
    odd = ["", "x", "1,2", "99999,2026-99-99 00:00:00+00,", "é,2026-01-01 00:00:00+00,", "y" * 300_000, "7,now,"]
    body = "\n".join(["user_id,erased_at,csv_modified", *odd, *lines]).encode() + b"\n"
    client = roll.bucket.client
    client.put_object(bucket_name="res", object_name="erased.csv", data=io.BytesIO(body), length=len(body))
    assert roll.process()["output"]["rows"] == 1  # that file is still there, and there was none by the tombstone
    assert len(rows(roll, "erased")) == 2499
    assert [row["user_id"] for row in mirrored(roll, "erased.csv")] == rows(roll, "erased")
    with application(roll) as made:
        assert not run(made)["output"]["written"]


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
