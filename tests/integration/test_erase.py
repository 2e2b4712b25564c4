"""Erasing people removes their data from the tables and the outputs, despite concurrent runs."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from process_data import deadline, locks, outputs, parallel, runs
from process_data.deadline import Deadline
from process_data.shared.storage.errors import AccessDenied, Unavailable
from process_data.shared.storage.listing import ListingPage
from process_data.shared.storage.objects import Objects

from tests.rows import NEW_SECOND, exported, rows
from tests.runs import application, erase, paused_run, proxied, run, set_at_end
from tests.stack import HANG_TIMEOUT, Response, Stack, connected


def test_only_the_tombstone_of_an_erased_person_remains(rollcall: Stack) -> None:
    for user_id in ("1", "2", "3"):
        rollcall.bucket.put_person(user_id, first=f"Secret{user_id}")
    rollcall.bucket.put("2.png", b"photo")
    rollcall.process()
    rollcall.bucket.put("2.csv", b"first_name,last_name,birthts\nSecret2,Hopper,Secret2\n")
    rollcall.bucket.put("3.csv", b"first_name,last_name,birthts\nSecret3,Hopper,Secret3\n")
    assert rollcall.process()["rejected"] == 2
    rollcall.sql("insert into hints values ('2.csv', 0)")
    summary = rollcall.erase("2")
    assert (summary["status"], summary["trigger"]) == ("done", "http")
    assert (summary["erased"], summary["not_found"], summary["remaining"]) == (["2"], [], [])
    assert summary["output"] == {"object": "res/output.csv", "rows": 2, "written": True, "pending": False}
    assert set(summary["seconds"]) == {"erase", "export", "total"}
    assert all(summary["seconds"].values())
    assert rows(rollcall) == ["1", "3"]
    assert rows(rollcall, "rejected", "object") == ["3.csv"]
    assert rows(rollcall, "hints", "object") == []
    assert exported(rollcall) == ["1", "3"]
    assert [row["object"] for row in rollcall.bucket.read_rows("rejected.csv")] == ["3.csv"]
    [tombstone] = rollcall.bucket.read_rows("erased.csv")
    assert (tombstone["user_id"], tombstone["csv_modified"]) == ("2", rollcall.bucket.modified("2.csv"))
    tables = [name for (name,) in rollcall.sql("select tablename from pg_tables where schemaname = 'public'")]
    for table in tables:
        [[count]] = rollcall.sql(f"select count(*) from {table} as t where t::text like '%Secret2%'")
        assert count == 0, table
    for name in ("output.csv", "rejected.csv", "erased.csv"):
        assert b"Secret2" not in rollcall.bucket.read(name)


def test_only_the_counts_of_an_erasure_are_recorded_and_logged(rollcall: Stack) -> None:
    rollcall.bucket.put_person("4711")
    rollcall.process()
    summary = rollcall.erase("4711", "4712", "4713")
    [[trigger, scope, status, recorded]] = rollcall.sql(
        "select trigger, scope, status, summary from runs where id = :id", id=summary["run_id"]
    )
    assert (trigger, scope, status) == ("http", "users", "done")
    assert (recorded["erased"], recorded["not_found"], recorded["remaining"]) == (1, 2, 0)
    assert (recorded["output"], recorded["seconds"]) == (summary["output"], summary["seconds"])
    assert "4711" not in json.dumps(recorded)
    lines = (rollcall.state / "logs/process-data.log").read_text(encoding="utf-8").splitlines()
    line = [text for text in lines if f'"run_id": {summary["run_id"]},' in text][-1]
    assert '"erased": 1' in line
    assert '"4711"' not in line


def test_the_error_of_a_failed_erasure_is_recorded_without_the_user_id(rollcall: Stack) -> None:
    rollcall.bucket.put_person("4711")
    denied = "S3 at s3.example returned 403 AccessDenied for src/{}"

    class Denying(Objects):
        def list_page(self, bucket: str, *, prefix: str = "", **_: Any) -> ListingPage:
            raise AccessDenied("s3", denied.format(prefix))

    with application(rollcall, Denying) as app, pytest.raises(AccessDenied, match="4711"):
        erase(app, "4711")
    [row] = rollcall.sql("select status, error from runs")
    assert row == ["failed", f"AccessDenied: {denied.format('<user_id>.csv')}"]


def test_an_unknown_user_gets_a_tombstone_too(rollcall: Stack) -> None:
    """A dump may contain the user; the tombstone erases the user again after a restore."""
    summary = rollcall.erase("1")
    assert (summary["status"], summary["erased"], summary["not_found"]) == ("done", [], ["1"])
    assert rows(rollcall, "erased") == ["1"]
    assert [row["user_id"] for row in rollcall.bucket.read_rows("erased.csv")] == ["1"]
    assert rollcall.erase("1")["erased"] == ["1"]  # now there is a tombstone


def test_a_rejection_without_a_file_is_erased_too(rollcall: Stack) -> None:
    """Whether or not the user already has a tombstone."""
    rollcall.bucket.put_person("2")
    for has_tombstone in (False, True):
        rollcall.bucket.put("1.csv", b"first_name,last_name,birthts\nSecret,Hopper,Secret\n")
        assert rollcall.process()["rejected"] == 1
        rollcall.bucket.remove("1.csv")
        assert rows(rollcall, "erased") == ["1"] * has_tombstone
        assert rollcall.erase("1")["erased"] == ["1"]
        assert rows(rollcall, "rejected", "object") == []
        assert rollcall.bucket.read_rows("rejected.csv") == []


def test_erasing_again_changes_nothing_and_gives_the_same_result(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()
    assert rollcall.erase("1")["erased"] == ["1"]
    rollcall.bucket.remove("1.csv")
    assert rollcall.erase("1")["erased"] == ["1"]  # now without a file

    def state() -> list[object]:
        changes = rollcall.sql("select object, changed from outputs order by object")
        return [changes, rollcall.sql("select * from erased")]

    before = state()
    again = rollcall.erase("1")
    assert (again["erased"], again["not_found"], again["output"]["written"]) == (["1"], [], False)
    assert state() == before


def test_a_row_beside_a_tombstone_is_erased_too(rollcall: Stack) -> None:
    """For example if only the table `users` was restored."""
    rollcall.erase("1")
    rollcall.sql(
        "insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified) "
        "values ('1', 'A', 'B', 0, '', now())"
    )
    assert rollcall.erase("1")["erased"] == ["1"]
    assert rows(rollcall) == []
    assert rows(rollcall, "erased") == ["1"]


def test_a_user_whose_file_was_not_yet_scanned_is_erased_too(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    assert rollcall.erase("1")["erased"] == ["1"]
    assert rollcall.process()["added"] == 0


def test_the_last_user_of_a_segment_and_the_first_of_the_next_one_are_erased(rollcall: Stack) -> None:
    rollcall.bucket.put_people(["1", "2", "3"])
    rollcall.process()
    rollcall.sql("insert into segments (start) values ('1.csv')")
    assert rollcall.erase("1", "2")["erased"] == ["1", "2"]
    assert rows(rollcall) == exported(rollcall) == ["3"]


def test_people_can_be_erased_after_the_bucket_was_emptied(rollcall: Stack) -> None:
    """The hints of other users stay, as an empty bucket is not scanned without confirmation."""
    for user_id in ("1", "2"):
        rollcall.bucket.put_person(user_id)
    rollcall.process()
    for user_id in ("1", "2"):
        rollcall.bucket.remove(f"{user_id}.csv")
    rollcall.sql("insert into hints values ('1.csv', 0), ('2.csv', 0)")
    assert rollcall.erase("1")["status"] == "done"
    assert rows(rollcall, "hints", "object") == ["2.csv"]
    assert exported(rollcall) == ["2"]


def test_a_thousand_people_are_erased_by_one_request(rollcall: Stack) -> None:
    users = [f"{number:04}" for number in range(1000)]
    rollcall.bucket.put_people([*users, "2000"])
    with application(rollcall, segment_keys="100") as app:
        run(app)
        assert len(rows(rollcall, "segments", "start")) > 5
        summary = erase(app, *users)
    assert (summary["status"], len(summary["erased"])) == ("done", 1000)
    assert exported(rollcall) == ["2000"]


@pytest.mark.parametrize(
    ("query", "method", "body", "expected"),
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
def test_an_invalid_erasure_is_an_error(
    rollcall: Stack, query: str, method: str, body: bytes, expected: tuple[int, str]
) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()
    response = rollcall.request(method, f"/function/process-data/erase{query}", body)
    assert (response.status, response.json()["error"]["code"]) == expected
    assert rows(rollcall) == ["1"]


def test_a_concurrent_scan_does_not_restore_an_erased_person(rollcall: Stack) -> None:
    """The erasure waits for the segment and then erases what the scan stored."""
    rollcall.bucket.put_person("1")
    with paused_run(rollcall) as (go, scanning), ThreadPoolExecutor(1) as executor:
        erasing = executor.submit(rollcall.erase, "1")
        time.sleep(0.5)
        assert not erasing.done()
        go.set()
        assert scanning.result()["added"] == 1
        assert erasing.result()["erased"] == ["1"]
    assert rows(rollcall) == []
    assert exported(rollcall) == []


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make a deadline expire when its run first waits for another session. Return the lengths of the waits."""
    waits: list[float] = []

    def expire(deadline: Deadline, seconds: float) -> None:
        assert not deadline.expired
        waits.append(seconds)
        deadline._seconds = deadline.elapsed

    monkeypatch.setattr(Deadline, "sleep", expire)
    return waits


def test_an_erasure_that_cannot_claim_a_segment_lists_the_remaining_users(rollcall: Stack, waits: list[float]) -> None:
    """The users of other segments are erased."""
    for user_id in ("1", "2", "3"):
        rollcall.bucket.put_person(user_id)
    rollcall.sql("insert into segments (start) values ('2'), ('2.csv')")
    with paused_run(rollcall, keys=("2.csv",)), application(rollcall) as app:
        summary = erase(app, "1", "2", "3")
    assert (summary["status"], summary["output"]["pending"]) == ("partial", False)
    assert (summary["erased"], summary["not_found"], summary["remaining"]) == (["1", "3"], [], ["2"])
    counts = "summary -> 'erased', summary -> 'not_found', summary -> 'remaining'"
    assert rollcall.sql(f"select status, {counts} from runs where id = :id", id=summary["run_id"]) == [
        ["partial", 2, 0, 1]
    ]
    assert (rows(rollcall), rows(rollcall, "erased")) == (["2"], ["1", "3"])
    assert len(waits) == 1


def test_an_erasure_that_cannot_export_is_partial(rollcall: Stack, waits: list[float]) -> None:
    """Another session exports, and output.csv still has the user."""
    rollcall.bucket.put_person("1")
    rollcall.process()
    with connected(rollcall.settings) as session, application(rollcall) as app:
        session.run("select pg_advisory_lock(:space, 0)", space=locks.EXPORT)
        summary = erase(app, "1")
    assert (summary["status"], summary["erased"], summary["remaining"]) == ("partial", ["1"], [])
    assert (summary["output"]["pending"], exported(rollcall)) == (True, ["1"])
    assert len(waits) == 1
    assert rollcall.erase("1")["status"] == "done"
    assert exported(rollcall) == []


def test_an_erasure_that_cannot_check_the_output_is_partial(rollcall: Stack, waits: list[float]) -> None:
    """The object may have been removed or overwritten, even if no row has changed since it was written."""
    rollcall.erase("1")
    with connected(rollcall.settings) as session, application(rollcall) as app:
        session.run("select pg_advisory_lock(:space, 0)", space=locks.EXPORT)
        summary = erase(app, "1")
    assert (summary["status"], summary["output"]["pending"]) == ("partial", True)
    assert len(waits) == 1


def test_a_user_whose_csv_is_not_looked_up_in_time_remains(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The users looked up before are erased."""
    rollcall.bucket.put_people(["1", "2"])
    rollcall.process()
    released = threading.Event()

    class Hanging(Objects):
        def list_page(self, bucket: str, *, prefix: str = "", **options: Any) -> ListingPage:
            if prefix == "2.csv":
                app.stopping.set()
                assert released.wait(HANG_TIMEOUT)
            return super().list_page(bucket, prefix=prefix, **options)

    monkeypatch.setattr(deadline, "GRACE", 0)
    monkeypatch.setattr(parallel, "_POLL_INTERVAL", 0.05)
    with application(rollcall, Hanging, fetch_threads="1") as app, set_at_end(released):
        summary = erase(app, "1", "2")
    assert (summary["status"], summary["erased"], summary["remaining"]) == ("partial", ["1"], ["2"])
    assert (rows(rollcall), rows(rollcall, "erased")) == (["2"], ["1"])


def test_a_user_whose_csv_cannot_be_read_can_be_erased(rollcall: Stack) -> None:
    """For example because another account has uploaded it."""
    for user_id in ("1", "2"):
        rollcall.bucket.put_person(user_id)
    rollcall.process()

    def deny(_: str, path: str) -> Response | None:
        return Response(403, {}, b"") if path == "/src/1.csv" else None

    with proxied(rollcall, deny) as (app, _):
        summary = erase(app, "1", "2")
        assert (summary["status"], summary["erased"]) == ("done", ["1", "2"])
        assert run(app)["status"] == "done"
    assert rows(rollcall) == exported(rollcall) == []


class Uploading(Objects):
    """An S3 client that calls `upload` when an erasure looks up the CSV of user 1."""

    upload: Callable[[], None]

    def list_page(self, bucket: str, *, prefix: str = "", **options: Any) -> ListingPage:
        if prefix == "1.csv":
            type(self).upload()
        return super().list_page(bucket, prefix=prefix, **options)


def test_an_event_during_an_erasure_is_not_lost(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()

    def upload() -> None:
        rollcall.bucket.put_person("2")
        assert rollcall.event("2.csv").json()["status"] == "partial"

    Uploading.upload = staticmethod(upload)
    with application(rollcall, Uploading) as app:
        erase(app, "1")
    assert rows(rollcall) == ["2"]
    assert exported(rollcall) == ["2"]


def test_an_event_for_a_newer_file_during_the_erasure_of_its_user_is_not_lost(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()

    class Replacing(Objects):
        """An S3 client that replaces the CSV, with an event, once the erasure has read its Last-Modified."""

        def list_page(self, bucket: str, *, prefix: str = "", **options: Any) -> ListingPage:
            page = super().list_page(bucket, prefix=prefix, **options)
            if prefix == "1.csv":
                time.sleep(NEW_SECOND)
                rollcall.bucket.put_person("1", first="New")
                assert rollcall.event("1.csv").json()["status"] == "partial"
            return page

    with application(rollcall, Replacing) as app:
        assert erase(app, "1")["erased"] == ["1"]
    assert rows(rollcall, "users", "first_name") == ["New"]
    assert exported(rollcall) == ["1"]


def test_a_retried_erasure_is_done_although_its_first_attempt_was_partial(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL fails after an attempt whose export stayed pending."""
    attempts: list[str] = []
    export, finish = outputs.export, runs._finish

    def report_pending_once(*arguments: Any, **options: Any) -> Any:
        attempts.append("pending" if not attempts else "exported")
        return export(*arguments, **options) | {"pending": attempts == ["pending"]}

    def fail_once(*arguments: Any) -> None:
        if attempts == ["pending"]:
            raise Unavailable("postgresql", "the session ended")
        finish(*arguments)

    monkeypatch.setattr(outputs, "export", report_pending_once)
    monkeypatch.setattr(runs, "_finish", fail_once)
    rollcall.bucket.put_person("1")
    rollcall.process()
    with application(rollcall) as app:
        summary = erase(app, "1", "2")
    assert (summary["status"], summary["erased"], summary["not_found"]) == ("done", ["1"], ["2"])
    assert attempts == ["pending", "exported"]
    assert rollcall.sql("select status from runs order by id") == [["done"], ["done"]]
