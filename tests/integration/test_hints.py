"""Hints: if an event finds its segment locked, the holder of the lock or a later run processes the objects."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from process_data import hints, segments, tombstones
from process_data.runs import Trigger
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.errors import AccessDenied
from process_data.shared.storage.listing import ListingPage
from process_data.shared.storage.objects import Objects
from process_data.tombstones import Tombstone

from tests.rows import rows
from tests.runs import application, paused_run, put_people, run
from tests.stack import HANG_TIMEOUT, Stack, connected


def test_a_hint_for_a_locked_segment_is_processed_by_its_holder(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1", last="Older")
    with paused_run(rollcall) as (go, holder):
        rollcall.bucket.put_person("1", last="Newer")
        rollcall.bucket.put("1.png", b"photo")
        event = rollcall.event("1.csv", "1.png").json()
        assert (event["status"], event["remaining"], event["listed"]) == ("partial", 1, 0)
        assert event["segments"] == {"scanned": 0, "remaining": 0}  # only full runs count segments
        assert rollcall.sql("select object from hints") == [["1.csv"]]
        go.set()
        assert holder.result()["status"] == "done"
    assert rollcall.sql("select last_name, img_path from users") == [["Newer", "src/1.png"]]
    assert rollcall.sql("select count(*) from hints") == [[0]]


def test_a_hint_for_a_segment_locked_by_an_event_is_processed_by_that_event(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.bucket.put_person("2")
    with paused_run(rollcall, Trigger.EVENT, keys=("1.csv",)) as (go, holder):
        assert rollcall.event("2.csv").json()["remaining"] == 1
        go.set()
        assert holder.result()["added"] == 2
    assert rows(rollcall) == ["1", "2"]
    assert rollcall.sql("select count(*) from hints") == [[0]]


def test_a_hint_that_is_repeated_during_its_processing_is_processed_again(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1", last="Older")
    with paused_run(rollcall, Trigger.EVENT, keys=("1.csv",)) as (go, holder):
        rollcall.bucket.put_person("1", last="Newer")
        assert rollcall.event("1.csv").json()["remaining"] == 1
        go.set()
        assert holder.result()["status"] == "done"
    assert rollcall.sql("select last_name from users") == [["Newer"]]


def test_a_request_for_a_user_waits_for_the_holder_of_the_segment(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1", last="Older")
    with paused_run(rollcall) as (go, holder), ThreadPoolExecutor(1) as executor:
        rollcall.bucket.put_person("1", last="Newer")
        request = executor.submit(rollcall.process, "?user_id=1")
        rollcall.wait_until(lambda: rollcall.sql("select count(*) from hints") == [[1]])
        assert not request.done()
        go.set()
        assert holder.result()["status"] == request.result()["status"] == "done"
    assert rollcall.sql("select last_name from users") == [["Newer"]]


def test_a_hint_that_arrives_during_a_scan_is_kept(rollcall: Stack) -> None:
    """The scan may have listed the object before the change, so it covers only earlier hints."""
    with application(rollcall) as app, app.pool.connection() as session:
        rollcall.sql("insert into hints (object, tick) values ('1.csv', nextval('ticks')), ('2.csv', nextval('ticks'))")
        segment = segments.claim(session, since=0, skip=())
        assert segment is not None
        rollcall.sql("update hints set tick = nextval('ticks') where object = '2.csv'")
        segments.complete(session, segment, keys=0, unreadable=0)
        session.run("select pg_advisory_unlock_all()")
    assert rollcall.sql("select object from hints") == [["2.csv"]]


def test_a_segment_has_only_the_hints_of_its_range(rollcall: Stack) -> None:
    rollcall.sql("insert into hints (object, tick) select id || '.csv', 0 from generate_series(4, 1, -1) as id")
    rollcall.sql("insert into segments (start) values ('1.csv'), ('3.csv')")
    with application(rollcall) as app, app.pool.connection() as session:
        segment = segments.claim_containing(session, ["3.csv"])
        assert segment is not None
        assert list(hints.read(session, segment.range, limit=10)) == ["2.csv", "3.csv"]
        assert list(hints.read(session, segment.range, limit=1)) == ["2.csv"]
        hints.delete(session, {"2.csv": 0})
        assert segments.reclaim(session, segment) is not None  # for 3.csv
        segments.complete(session, segment, keys=0, unreadable=0)
        assert segments.reclaim(session, segment) is None  # otherwise its holder would look for hints for ever
        session.run("select pg_advisory_unlock_all()")
        assert rows(rollcall, "hints", "object") == ["1.csv", "4.csv"]
        first = segments.claim_hinted(session, ())
        assert first is not None
        assert (first.start, first.end) == ("", "1.csv")


def test_an_event_is_processed_in_all_its_segments(rollcall: Stack) -> None:
    user_ids = put_people(rollcall, range(60))
    with application(rollcall, segment_keys="10") as app:
        run(app)
        for user in user_ids[::7]:
            rollcall.bucket.put_person(user, last="Changed")
        keys = tuple(f"{user}.csv" for user in user_ids[::7])
        summary = run(app, Trigger.EVENT, keys=keys)
        assert (summary["status"], summary["updated"], summary["listed"]) == ("done", len(keys), len(keys))
    assert rollcall.sql("select count(*) from users where last_name = 'Changed'") == [[len(keys)]]


def complete_scan(session: Connection) -> None:
    segment = segments.claim(session, since=0, skip=())
    assert segment is not None
    segments.complete(session, segment, keys=0, unreadable=0)


def erase_users(session: Connection) -> None:
    tombstones.erase(session, [Tombstone(user_id, None, None) for user_id in ("2", "1")], tick=10)


@pytest.mark.parametrize(
    "change",
    [
        lambda session: hints.add(session, ["2.csv", "1.csv"]),
        lambda session: hints.delete(session, {"2.csv": 0, "1.csv": 0}),
        complete_scan,
        erase_users,
    ],
    ids=["add", "delete", "complete", "erase"],
)
def test_hints_are_always_added_and_deleted_in_the_same_order(
    rollcall: Stack, change: Callable[[Connection], None]
) -> None:
    """Otherwise two sessions could deadlock."""
    rollcall.sql("insert into hints (object, tick) values ('2.csv', 0), ('1.csv', 0)")
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    with connected(rollcall.settings) as other, application(rollcall) as app, ThreadPoolExecutor(1) as executor:
        other.run("begin")
        other.run("select from hints where object = '1.csv' for update")
        with app.pool.connection() as session:
            future = executor.submit(change, session)
            rollcall.wait_until(lambda: rollcall.sql(waiting) == [[1]])
            other.run("select from hints where object = '2.csv' for update nowait")  # fails if the change has locked it
            other.run("rollback")
            future.result()
            session.run("select pg_advisory_unlock_all()")
    assert rollcall.sql("select from hints where tick = 0") == []


class Unlistable(Objects):
    """An S3 client that cannot list the keys of user 1."""

    def list_page(self, bucket: str, *, prefix: str = "", **options: Any) -> ListingPage:
        if prefix.startswith("1."):
            raise AccessDenied("s3", "S3 returned 400 for the prefix 1.")
        return super().list_page(bucket, prefix=prefix, **options)


def test_a_full_run_covers_a_hint_that_could_not_be_processed(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.bucket.put_person("2")
    with application(rollcall, Unlistable) as app:
        assert run(app, Trigger.EVENT, keys=("1.csv",))["remaining"] == 1
        assert rollcall.sql("select object from hints") == [["1.csv"]]
        summary = run(app)
        assert (summary["status"], summary["added"]) == ("done", 2)
        assert rollcall.sql("select count(*) from hints") == [[0]]
        # this tick is later than any scan's, so no scan covers the hint; it cannot be processed, so it is kept
        rollcall.sql("insert into hints values ('1.csv', 1000000)")
        assert run(app)["status"] == "done"
    assert rollcall.sql("select object from hints") == [["1.csv"]]


def test_a_request_does_not_wait_for_a_user_whose_keys_s3_cannot_list(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    with application(rollcall, Unlistable, run_deadline="3600") as app, ThreadPoolExecutor(1) as executor:
        try:
            summary = executor.submit(run, app, keys=("1.csv",)).result(timeout=HANG_TIMEOUT)
        finally:
            app.stopping.set()
    assert (summary["status"], summary["remaining"]) == ("partial", 1)
