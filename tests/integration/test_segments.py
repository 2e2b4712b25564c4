"""Segments are split, claimed and merged as the bucket changes, without losing users."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from process_data import locks, scan, segments
from process_data.keys import LAST_KEY
from process_data.listing import Listing
from process_data.reconcile import reconcile
from process_data.scope import Range
from process_data.store import store

from tests.rows import rows, starts
from tests.runs import application, put_people, run
from tests.stack import HANG_TIMEOUT, Stack


def test_a_bucket_is_split_into_segments_between_users(rollcall: Stack) -> None:
    user_ids = put_people(rollcall, range(100))
    for user in user_ids[::3]:
        rollcall.bucket.put(f"{user}.png", b"photo")
    with application(rollcall, segment_keys="10") as app:
        first = run(app)
        assert (first["status"], first["added"], first["listed"]) == ("done", 100, 134)
        assert rows(rollcall) == user_ids
        boundaries = starts(rollcall)
        assert len(boundaries) > 10
        assert not [start for start in boundaries if any(f"{user}.csv" <= start < f"{user}.png" for user in user_ids)]
        assert rollcall.sql("select sum(keys) from segments") == [[134]]
        again = run(app)
        assert (again["listed"], again["unchanged"], again["segments"]["scanned"]) == (134, 100, len(boundaries))
        assert starts(rollcall) == boundaries


def test_small_neighbours_are_merged(rollcall: Stack) -> None:
    user_ids = put_people(rollcall, range(60))
    with application(rollcall, segment_keys="5", workers="2") as app:
        run(app)
        before = len(starts(rollcall))
        for user in user_ids[10:]:
            rollcall.bucket.remove(f"{user}.csv")
        for _ in range(8):
            summary = run(app)
        assert summary["listed"] == 10
        assert len(starts(rollcall)) < before / 2
        assert starts(rollcall)[0] == ""
        assert rollcall.sql("select sum(keys) from segments") == [[10]]
        rollcall.bucket.put_person(user_ids[30], last="Changed")
        assert run(app)["updated"] == 1


def test_merged_segments_have_room_for_new_keys(rollcall: Stack) -> None:
    """Otherwise a few new keys would split them again."""
    user_ids = put_people(rollcall, range(7))
    rollcall.sql("insert into segments (start) values ('0003')")
    with application(rollcall, segment_keys="8", workers="1") as app:
        run(app)
        assert starts(rollcall) == ["", "0003"]
        rollcall.bucket.remove(f"{user_ids[-1]}.csv")
        run(app)
        assert starts(rollcall) == [""]  # six keys, the most for a merged segment: three quarters of segment_keys


def test_segments_are_merged_only_if_unlocked_scanned_small_and_adjacent(rollcall: Stack) -> None:
    # so that the scan of the segment '' below gets a later tick than the other two
    rollcall.sql("select setval('ticks', nextval('ticks') + 10)")
    rollcall.sql(
        "insert into segments (start, unreadable, scanned, turn, scanned_at) "
        "values ('5', 3, 7, 3, '2026-01-01'), ('7', 0, 9, 9, now())"
    )
    with application(rollcall) as app, app.pool.connection() as own, app.pool.connection() as other:
        segment = segments.claim(own, since=8, skip=())
        assert segment is not None
        [[middle]] = rollcall.sql("select id from segments where start = '5'")
        segments.complete(own, segment, keys=1, unreadable=2)
        segments.merge(own, segment, since=7, max_keys=100)
        assert starts(rollcall) == ["", "5", "7"]  # the middle one was scanned too early
        assert locks.try_lock(other, locks.SEGMENT, middle)
        segments.merge(own, segment, since=5, max_keys=100)
        assert starts(rollcall) == ["", "5", "7"]  # the middle one is locked
        locks.unlock(other, locks.SEGMENT, middle)
        segments.merge(own, segment, since=5, max_keys=0)
        assert starts(rollcall) == ["", "5", "7"]  # the merged segment would be too large
        [[upper]] = rollcall.sql("select id from segments where start = '7'")
        own.run(segments._MERGE, lower=segment.id, upper=upper)
        assert starts(rollcall) == ["", "5", "7"]  # another segment is in between
        segments.merge(own, segment, since=5, max_keys=1)  # exactly the size of the merged segment
        assert starts(rollcall) == ["", "7"]
        # the merged segment takes the earlier of the two places in the queue
        merged = "select keys, unreadable, scanned, turn, scanned_at::date::text from segments where start = ''"
        assert rollcall.sql(merged) == [[1, 5, 7, 3, "2026-01-01"]]
        segments.merge(own, segment, since=5, max_keys=100)
        assert starts(rollcall) == [""]
        assert rollcall.sql(merged) == [[1, 5, 7, 3, "2026-01-01"]]
        locks.unlock(own, locks.SEGMENT, segment.id)
        assert rollcall.sql("select objid from pg_locks where locktype = 'advisory'") == []


def test_after_a_split_only_the_scanned_part_moves_to_the_end_of_the_queue(rollcall: Stack) -> None:
    """A scan is recorded with the tick and time of the claim, which precedes its listing."""
    rollcall.sql("update segments set keys = 9, scanned = 3, turn = 2, scanned_at = '2026-01-01 00:00:00+00'")
    with application(rollcall) as app, app.pool.connection() as session:
        segment = segments.claim(session, since=3, skip=())
        assert segment is not None
        segments.split(session, segment, "5")
        segments.complete(session, segment, keys=7, unreadable=0)
        session.run("select pg_advisory_unlock_all()")
    assert rollcall.sql("select start, keys, scanned, turn, scanned_at from segments order by start") == [
        ["", 7, segment.tick, segment.tick, segment.claimed_at],
        ["5", 0, 3, 2, datetime(2026, 1, 1, tzinfo=UTC)],
    ]


def test_a_scan_during_the_start_of_a_run_is_not_repeated(rollcall: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only scans with a tick (a logical time) in the future, which are from before a restore, are repeated."""
    with application(rollcall) as app, app.pool.connection() as connection:
        run_statement = connection.run
        scanned: list[str] = []

        def run_then_scan(sql: str, **parameters: object) -> list[list[object]]:
            result = run_statement(sql, **parameters)
            if not scanned:
                scanned.append(sql)
                rollcall.sql("update segments set scanned = nextval('ticks')")
            return result

        monkeypatch.setattr(connection, "run", run_then_scan)
        segments.next_tick(connection)
    assert rollcall.sql("select from segments where scanned = 0") == []


def test_the_segment_waiting_longest_is_claimed_first_and_locked_ones_are_skipped(rollcall: Stack) -> None:
    rollcall.sql("delete from segments")
    rollcall.sql("insert into segments (start, scanned, turn) values ('', 5, 5), ('3', 2, 2), ('6', 2, 9), ('9', 8, 8)")
    with application(rollcall) as app, ExitStack() as opened:
        sessions = [opened.enter_context(app.pool.connection()) for _ in range(4)]
        claimed = [segments.claim(session, since=7, skip=()) for session in sessions]
        assert [segment and (segment.start, segment.end) for segment in claimed] == [
            ("3", "6"),
            ("", "3"),
            ("6", "9"),
            None,
        ]
        assert sorted(segment.tick for segment in claimed if segment) == [
            segment.tick for segment in claimed if segment
        ]
        for session in sessions:
            session.run("select pg_advisory_unlock_all()")
        first = claimed[0]
        assert first is not None
        second = segments.claim(sessions[0], since=7, skip=[first.id])
        assert second is not None
        assert second.start == ""


def test_a_segment_that_was_scanned_just_before_it_was_locked_is_released(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query that finds and locks a segment does not see what other sessions commit meanwhile."""
    with application(rollcall) as app, app.pool.connection() as connection:
        run_statement = connection.run

        def run_then_scan(sql: str, **parameters: object) -> list[list[object]]:
            result = run_statement(sql, **parameters)
            if "pg_try_advisory_lock" in sql:
                rollcall.sql("update segments set scanned = 9")
            return result

        monkeypatch.setattr(connection, "run", run_then_scan)
        assert segments.claim(connection, since=8, skip=()) is None
        assert rollcall.sql("select objid from pg_locks where locktype = 'advisory'") == []


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_claim_locks_one_segment_with_and_without_table_statistics(rollcall: Stack, *, analyzed: bool) -> None:
    """An additional lock would block its segment for the lifetime of the session."""
    rollcall.sql("insert into segments (start) values ('12'), ('12.png'), ('2')")
    rollcall.sql("insert into hints select user_id || '.csv', 0 from unnest(array['0', '12', '13', '3']) as user_id")
    if analyzed:
        rollcall.sql("analyze segments")
        rollcall.sql("analyze hints")
    with application(rollcall) as app, app.pool.connection() as connection:

        def locked() -> list[int]:
            sql = "select objid::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
            return [number for (number,) in connection.run(sql)]

        skip = [number for (number,) in connection.run("select id from segments order by start limit 2")]
        # so long that checking it costs more than trying a lock: PostgreSQL evaluates cheap conditions first
        skip += range(1000, 1020)
        claims: dict[str, Callable[[], segments.Segment | None]] = {
            "due": lambda: segments.claim(connection, 1, ()),
            "hinted": lambda: segments.claim_hinted(connection, ()),
            "hinted keys": lambda: segments.claim_hinted(connection, (), ["12.csv", "3.csv"]),
            "due, not skipped": lambda: segments.claim(connection, 1, skip),
            "hinted, not skipped": lambda: segments.claim_hinted(connection, skip),
        }
        for name, claim in claims.items():
            segment = claim()
            assert segment is not None
            assert locked() == [segment.id], name
            locks.unlock(connection, locks.SEGMENT, segment.id)
            again = segments.reclaim(connection, segment)
            assert locked() == ([] if again is None else [segment.id]), name
            if again is not None:
                locks.unlock(connection, locks.SEGMENT, segment.id)


def test_hints_in_locked_or_failed_segments_do_not_delay_other_hints(rollcall: Stack) -> None:
    rollcall.sql("insert into segments (start) values ('5'), ('7')")
    rollcall.sql("insert into hints select 10000 + number || '.csv', 0 from generate_series(1, 2000) as number")
    rollcall.sql("insert into hints values ('6.csv', 0)")
    with application(rollcall) as app, app.pool.connection() as holder, app.pool.connection() as session:
        first = segments.claim_hinted(holder, ())
        assert first is not None
        for is_locked in (True, False):
            segment = segments.claim_hinted(session, () if is_locked else [first.id])
            assert segment is not None
            assert (segment.start, segment.end) == ("5", "7")
            session.run("select pg_advisory_unlock_all()")
            holder.run("select pg_advisory_unlock_all()")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_run_uses_the_configured_number_of_workers(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Each scan waits until the expected number of threads are scanning; with fewer, the test fails."""
    put_people(rollcall, range(60))
    with application(rollcall, segment_keys="10", workers="1") as app:
        run(app)
    rollcall.sql("update users set csv_etag = ''")
    scanning: set[int] = set()
    all_scan = threading.Event()

    def store_when_all_scan(*arguments: Any) -> Any:
        scanning.add(threading.get_ident())
        if len(scanning) == workers:
            all_scan.set()
        assert all_scan.wait(HANG_TIMEOUT)
        return store(*arguments)

    monkeypatch.setattr(scan, "store", store_when_all_scan)
    with application(rollcall, segment_keys="10", workers=str(workers), fetch_threads="200") as app:
        assert run(app)["unchanged"] == 60
    assert len(scanning) == workers


def test_the_users_to_fetch_are_in_order(rollcall: Stack) -> None:
    """A scan that ends early splits its segment at the first user that it did not fetch."""
    listing = Listing(csvs=dict.fromkeys(("3", "1", "20", "2"), "etag"))
    with application(rollcall) as app, app.pool.connection() as connection:
        assert reconcile(connection, Range("", LAST_KEY), listing, "src", now=0).pending == ["1", "2", "20", "3"]


def test_the_keys_after_a_split_belong_to_the_new_segment(rollcall: Stack) -> None:
    user_ids = put_people(rollcall, range(30))
    for user in user_ids:
        rollcall.bucket.put(f"{user}.png", b"photo")
    rollcall.process()
    assert starts(rollcall) == [""]
    with application(rollcall, segment_keys="10", workers="1") as app:
        summary = run(app)
    assert (summary["status"], summary["unchanged"], summary["images_changed"]) == ("done", 30, 0)
    assert len(starts(rollcall)) > 3


@pytest.mark.parametrize("segment_keys", ["5", "5000"])
def test_a_folder_next_to_a_users_keys_hides_no_user(rollcall: Stack, segment_keys: str) -> None:
    """A server may list the folder 12/ before 12.csv, because the name 12 sorts first."""
    user_ids = [str(number) for number in range(10, 30)] + [f"11{number}" for number in range(6)]
    for user_id in user_ids:
        rollcall.bucket.put_person(user_id)
    rollcall.bucket.put("0/x", b"")
    rollcall.bucket.put("12/x", b"")
    rollcall.bucket.put("12.png", b"photo")
    with application(rollcall, segment_keys=segment_keys) as app:
        for _ in range(3):
            assert run(app)["status"] == "done"
            assert rows(rollcall) == sorted(user_ids)
            assert rollcall.sql("select user_id from users where img_path is not null") == [["12"]]


def test_any_number_of_keys_may_lie_between_those_of_a_user(rollcall: Stack) -> None:
    """Segments end among these keys, and the user keeps the photo, whose key sorts after them."""
    rollcall.bucket.put_person("12")
    rollcall.bucket.put("12.png", b"photo")
    rollcall.bucket.put_person("13")
    bad_keys = [f"12.d{number:02}.csv" for number in range(30)]
    for key in bad_keys:
        rollcall.bucket.put(key, b"")
    with application(rollcall, segment_keys="5") as app:
        for _ in range(2):
            summary = run(app)
            assert (summary["status"], summary["listed"], summary["rejected"]) == ("done", 33, len(bad_keys))
            assert rollcall.sql("select user_id, img_path from users order by user_id") == [
                ["12", "src/12.png"],
                ["13", None],
            ]
        assert len(starts(rollcall)) >= 6
        rollcall.bucket.remove("12.png")
        assert run(app)["images_changed"] == 1


def test_an_unrelated_key_before_those_of_a_user_may_be_a_boundary(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()
    rollcall.bucket.put("1.png", b"photo")
    rollcall.sql("insert into segments (start) values ('1.a')")
    summary = rollcall.process()
    assert (summary["unchanged"], summary["images_changed"]) == (1, 1)
    assert rows(rollcall, "users", "img_path") == ["src/1.png"]
