"""Segments: one writer each, cut and merged as the bucket changes, and faults that stay in one of them."""

import csv
import io
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from process_data import locks, segments
from process_data.deadline import Deadline
from process_data.runs import Trigger
from process_data.shared.storage.errors import Refused, Unavailable
from process_data.shared.storage.objects import ListingPage, Object, Objects

from tests.proxy import counting
from tests.runs import Failing, Paused, application, run
from tests.s3_simulator import simulated_s3
from tests.stack import Stack


def put_people(stack: Stack, numbers: range) -> list[str]:
    users = [f"{number:04}" for number in numbers]
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(stack.bucket.put_person, users))
    return users


def users(stack: Stack) -> list[str]:
    return [user for (user,) in stack.sql("select user_id from users order by user_id")]


def starts(stack: Stack) -> list[str]:
    return [start for (start,) in stack.sql("select start from segments order by start")]


def test_a_bucket_is_cut_into_segments_that_lie_between_users(roll: Stack) -> None:
    people = put_people(roll, range(100))
    for user in people[::3]:
        roll.bucket.put(f"{user}.png", b"photo")
    with application(roll, segment_keys="10") as made:
        first = run(made)
        assert (first["status"], first["added"], first["listed"]) == ("done", 100, 134)
        assert users(roll) == people
        cut = starts(roll)
        assert len(cut) > 10
        assert not [start for start in cut if any(f"{user}.csv" <= start < f"{user}.png" for user in people)]
        assert roll.sql("select sum(keys) from segments") == [[134]]
        again = run(made)
        assert (again["listed"], again["unchanged"], again["segments"]["scanned"]) == (134, 100, len(cut))
        assert starts(roll) == cut


def test_small_neighbours_are_merged(roll: Stack) -> None:
    people = put_people(roll, range(60))
    with application(roll, segment_keys="5", workers="2") as made:
        run(made)
        many = len(starts(roll))
        for user in people[10:]:
            roll.bucket.remove(f"{user}.csv")
        for _ in range(8):
            summary = run(made)
        assert summary["listed"] == 10
        assert len(starts(roll)) < many / 2
        assert starts(roll)[0] == ""
        assert roll.sql("select sum(keys) from segments") == [[10]]
        roll.bucket.put_person(people[30], last="Changed")
        assert run(made)["updated"] == 1


def test_a_segment_is_merged_with_none_that_is_held_or_was_not_scanned(roll: Stack) -> None:
    roll.sql("insert into segments (start, scanned) values ('5', 7), ('7', 9)")
    with application(roll) as made, made.pool.connection() as own, made.pool.connection() as other:
        segment = segments.claim(own, since=8, skip=())
        assert segment is not None
        [[middle]] = roll.sql("select id from segments where start = '5'")
        segments.complete(own, segment, keys=1)
        segments.merge(own, segment, since=8, limit=100)
        assert starts(roll) == ["", "5", "7"]  # the middle one was scanned before
        assert locks.try_lock(other, locks.SEGMENT, middle)
        segments.merge(own, segment, since=5, limit=100)
        assert starts(roll) == ["", "5", "7"]  # it is held
        locks.unlock(other, locks.SEGMENT, middle)
        segments.merge(own, segment, since=5, limit=0)
        assert starts(roll) == ["", "5", "7"]  # together they would be too large
        [[upper]] = roll.sql("select id from segments where start = '7'")
        own.run(segments._MERGE, lower=segment.id, upper=upper)
        assert starts(roll) == ["", "5", "7"]  # there is another one in between
        segments.merge(own, segment, since=5, limit=100)
        assert starts(roll) == ["", "7"]
        assert roll.sql("select scanned from segments where start = ''") == [[7]]
        locks.unlock(own, locks.SEGMENT, segment.id)


def test_who_waited_longest_is_next_and_what_is_held_is_passed_over(roll: Stack) -> None:
    roll.sql("delete from segments")
    roll.sql("insert into segments (start, scanned, turn) values ('', 5, 5), ('3', 2, 2), ('6', 2, 9), ('9', 8, 8)")
    with application(roll) as made, ExitStack() as opened:
        sessions = [opened.enter_context(made.pool.connection()) for _ in range(4)]
        claimed = [segments.claim(session, since=7, skip=()) for session in sessions]
        assert [segment and (segment.start, segment.end) for segment in claimed] == [
            ("3", "6"),
            ("", "3"),
            ("6", "9"),
            None,
        ]
        assert sorted(one.tick for one in claimed if one) == [one.tick for one in claimed if one]
        for session in sessions:
            session.run("select pg_advisory_unlock_all()")
        first = claimed[0]
        assert first is not None
        second = segments.claim(sessions[0], since=7, skip=[first.id])
        assert second is not None
        assert second.start == ""


def test_nobody_writes_beside_the_holder_and_who_lost_the_lock_cannot_commit(roll: Stack) -> None:
    """The holder has fetched the older version when its session ends; another run reads the newer one."""
    roll.bucket.put_person("1", last="Older")
    with application(roll, Paused, run_deadline="2") as made, ThreadPoolExecutor(1) as executor:
        paused: Any = made.objects
        holder = executor.submit(run, made)
        assert paused.reached.wait(30)
        roll.bucket.put_person("1", last="Newer")
        [[before]] = roll.sql("select count(*) from users")
        assert roll.event("1.csv").json()["remaining"] == 1  # the segment is held: the event leaves a hint
        roll.sql("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = :space::oid",
                 space=locks.SEGMENT)  # fmt: skip
        assert roll.process()["added"] == 1
        time.sleep(2)  # no second attempt of the holder
        paused.go.set()
        with pytest.raises(Unavailable):
            holder.result()
    assert before == 0
    assert roll.sql("select last_name from users") == [["Newer"]]
    assert b"Older" not in roll.bucket.read("output.csv")


def test_a_hint_for_a_held_segment_is_picked_up_by_its_holder(roll: Stack) -> None:
    roll.bucket.put_person("1", last="Older")
    with application(roll, Paused) as made, ThreadPoolExecutor(1) as executor:
        paused: Any = made.objects
        holder = executor.submit(run, made)
        assert paused.reached.wait(30)
        roll.bucket.put_person("1", last="Newer")
        roll.bucket.put("1.png", b"photo")
        event = roll.event("1.csv", "1.png").json()
        assert (event["status"], event["remaining"], event["listed"]) == ("partial", 1, 0)
        assert roll.sql("select object from hints") == [["1.csv"]]
        paused.go.set()
        assert holder.result()["status"] == "done"
    assert roll.sql("select last_name, img_path from users") == [["Newer", "src/1.png"]]
    assert roll.sql("select count(*) from hints") == [[0]]


def test_a_hint_for_a_segment_that_an_event_holds_is_picked_up_by_that_event(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.bucket.put_person("2")
    with application(roll, Paused) as made, ThreadPoolExecutor(1) as executor:
        paused: Any = made.objects
        holder = executor.submit(run, made, Trigger.EVENT, objects=("1.csv",))
        assert paused.reached.wait(30)
        assert roll.event("2.csv").json()["remaining"] == 1
        paused.go.set()
        assert holder.result()["added"] == 2
    assert users(roll) == ["1", "2"]
    assert roll.sql("select count(*) from hints") == [[0]]


def test_a_hint_that_is_repeated_while_it_is_looked_at_is_looked_at_again(roll: Stack) -> None:
    roll.bucket.put_person("1", last="Older")
    with application(roll, Paused) as made, ThreadPoolExecutor(1) as executor:
        paused: Any = made.objects
        holder = executor.submit(run, made, Trigger.EVENT, objects=("1.csv",))
        assert paused.reached.wait(30)
        roll.bucket.put_person("1", last="Newer")
        assert roll.event("1.csv").json()["remaining"] == 1
        paused.go.set()
        assert holder.result()["status"] == "done"
    assert roll.sql("select last_name from users") == [["Newer"]]


def test_a_request_for_a_user_waits_for_the_holder(roll: Stack) -> None:
    roll.bucket.put_person("1", last="Older")
    with application(roll, Paused) as made, ThreadPoolExecutor(2) as executor:
        paused: Any = made.objects
        holder = executor.submit(run, made)
        assert paused.reached.wait(30)
        roll.bucket.put_person("1", last="Newer")
        asked = executor.submit(roll.process, "?user_id=1")
        roll.wait_until(lambda: roll.sql("select count(*) from hints") == [[1]])
        assert not asked.done()
        paused.go.set()
        assert holder.result()["status"] == asked.result()["status"] == "done"
    assert roll.sql("select last_name from users") == [["Newer"]]


def test_a_hint_that_came_during_a_scan_outlives_it(roll: Stack) -> None:
    """The scan may have listed before; a hint from before it is covered by it."""
    with application(roll) as made, made.pool.connection() as session:
        roll.sql("insert into hints (object, tick) values ('1.csv', nextval('ticks')), ('2.csv', nextval('ticks'))")
        segment = segments.claim(session, since=0, skip=())
        assert segment is not None
        roll.sql("update hints set tick = nextval('ticks') where object = '2.csv'")
        segments.complete(session, segment, keys=0)
        session.run("select pg_advisory_unlock_all()")
    assert roll.sql("select object from hints") == [["2.csv"]]


def test_many_runs_at_once_are_all_served_by_one_more_scan(roll: Stack) -> None:
    roll.bucket.put_person("1")
    with ExitStack() as opened:
        endpoint, asked = opened.enter_context(counting(roll.process_settings["s3_endpoint"]))
        made = opened.enter_context(application(roll, Paused, s3_endpoint=endpoint))
        executor = opened.enter_context(ThreadPoolExecutor(9))
        paused: Any = made.objects
        first = executor.submit(run, made)
        assert paused.reached.wait(30)
        others = [executor.submit(run, made) for _ in range(8)]
        roll.wait_until(lambda: roll.sql("select count(*) from runs where status = 'running'") == [[9]])
        paused.go.set()
        summaries = [call.result() for call in (first, *others)]
    assert {summary["status"] for summary in summaries} == {"done"}
    assert sum(summary["added"] for summary in summaries) == 1
    assert asked["LIST"] <= 3
    assert asked["GET"] == 1


def test_two_replicas_share_a_bucket_without_doing_anything_twice(roll: Stack) -> None:
    people = put_people(roll, range(600))
    with counting(roll.process_settings["s3_endpoint"]) as (endpoint, asked):
        small = {"segment_keys": "20", "batch_size": "10", "workers": "3", "s3_endpoint": endpoint}
        with application(roll, **small) as one, application(roll, **small) as two, ThreadPoolExecutor(2) as executor:
            summaries = list(executor.map(run, (one, two)))
    assert [summary["status"] for summary in summaries] == ["done", "done"]
    assert sum(summary["added"] for summary in summaries) == asked["GET"] == len(people)
    assert all(summary["added"] > 100 for summary in summaries)
    assert users(roll) == people
    output = csv.DictReader(io.StringIO(roll.bucket.read("output.csv").decode()))
    assert [row["user_id"] for row in output] == people


class Slow(Objects):
    """S3 that needs a while for each page and each object."""

    page_seconds = get_seconds = 0.0

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        time.sleep(self.get_seconds)
        return super().get(bucket, key, limit=limit)

    def list_page(self, bucket: str, **named: Any) -> ListingPage:
        time.sleep(self.page_seconds)
        return super().list_page(bucket, **named)


@pytest.mark.parametrize(("page_seconds", "get_seconds"), [(0.0, 0.2), (1.2, 0.0)], ids=["objects", "pages"])
def test_every_run_makes_progress_however_short_its_time(roll: Stack, page_seconds: float, get_seconds: float) -> None:
    """Even where a page takes longer than a run may: what a run did is never done again."""
    people = put_people(roll, range(120))
    slow = type("Slow", (Slow,), {"page_seconds": page_seconds, "get_seconds": get_seconds})
    added = passes = 0
    status = "partial"
    [[since]] = roll.sql("select nextval('ticks')")
    with counting(roll.process_settings["s3_endpoint"]) as (endpoint, asked):
        small = {"segment_keys": "50", "batch_size": "10", "fetch_threads": "4", "workers": "1", "run_deadline": "1"}
        with application(roll, slow, s3_endpoint=endpoint, **small) as made:
            while status == "partial":
                summary = run(made, Trigger.CONTINUATION, since=since)
                assert summary["segments"]["scanned"] > 0
                added, passes, status = added + summary["added"], passes + 1, summary["status"]
                assert passes <= 20
    assert passes > 1
    assert added == len(people)
    assert users(roll) == people
    if not get_seconds:
        assert asked["GET"] == len(people)


def test_a_run_that_is_stopped_says_partial_and_keeps_what_it_did(roll: Stack) -> None:
    put_people(roll, range(100))
    slow = type("Slow", (Slow,), {"get_seconds": 0.05})
    with application(roll, slow, batch_size="10", fetch_threads="2") as made:
        threading.Timer(0.6, made.stopping.set).start()
        summary = run(made)
        assert summary["status"] == "partial"
        assert 0 < summary["added"] < 100
        assert summary["added"] + summary["remaining"] == 100
        assert len(users(roll)) == summary["added"]
        assert roll.sql("select status from runs") == [["partial"]]
    assert roll.process()["added"] == 100 - summary["added"]


def test_a_run_that_is_stopped_before_anything_came_blames_nobody(roll: Stack) -> None:
    put_people(roll, range(3))
    slow = type("Slow", (Slow,), {"page_seconds": 2})
    with application(roll, slow) as made:
        threading.Timer(0.5, made.stopping.set).start()
        summary = run(made)
    assert (summary["status"], summary["listed"], summary["segments"]["remaining"]) == ("partial", 0, 1)


@pytest.mark.parametrize(("page_seconds", "get_seconds"), [(60.0, 0.0), (0.0, 60.0)], ids=["pages", "objects"])
def test_an_s3_that_is_silent_is_named_when_the_time_is_over(
    roll: Stack, page_seconds: float, get_seconds: float
) -> None:
    """Nothing waits for it any longer than the deadline and its grace."""
    put_people(roll, range(3))
    released, answered = threading.Event(), threading.Event()

    class Silent(Objects):
        def pause(self, seconds: float) -> None:
            if seconds:
                released.wait(seconds)
                answered.set()

        def get(self, bucket: str, key: str, *, limit: int) -> Object:
            self.pause(get_seconds)
            return super().get(bucket, key, limit=limit)

        def list_page(self, bucket: str, **named: Any) -> ListingPage:
            self.pause(page_seconds)
            return super().list_page(bucket, **named)

        def etag(self, bucket: str, key: str) -> str:
            self.pause(60)
            return super().etag(bucket, key)

    with application(roll, Silent, run_deadline="1") as made:
        with pytest.raises(Unavailable, match="did not respond within 1 s"):
            run(made)
        assert not answered.is_set()
        released.set()
    assert roll.sql("select count(*) from users") == [[0]]


def test_an_export_does_not_wait_for_an_s3_that_fell_silent(roll: Stack) -> None:
    put_people(roll, range(3))
    released, answered = threading.Event(), threading.Event()

    class Silent(Objects):
        def etag(self, bucket: str, key: str) -> str:
            released.wait(60)
            answered.set()
            return super().etag(bucket, key)

    with application(roll, Silent, run_deadline="1") as made:
        summary = run(made)
        assert not answered.is_set()
        released.set()
    assert (summary["status"], summary["added"], summary["output"]["pending"]) == ("partial", 3, True)
    assert roll.process()["output"]["written"]


def test_no_batch_is_begun_after_the_deadline(roll: Stack) -> None:
    people = put_people(roll, range(100))
    slow = type("Slow", (Slow,), {"get_seconds": 0.2})
    with application(roll, slow, batch_size="5", fetch_threads="8", workers="1", run_deadline="1") as made:
        summary = run(made)
    assert summary["status"] == "partial"
    assert 0 < summary["added"] < len(people)


def test_a_segment_that_is_cut_leaves_what_lies_behind_to_the_other_one(roll: Stack) -> None:
    people = put_people(roll, range(30))
    for user in people:
        roll.bucket.put(f"{user}.png", b"photo")
    roll.process()
    assert starts(roll) == [""]
    with application(roll, segment_keys="10", workers="1") as made:
        summary = run(made)
    assert (summary["status"], summary["unchanged"], summary["images_changed"]) == ("done", 30, 0)
    assert len(starts(roll)) > 3


def test_objects_that_can_not_be_read_stop_nothing_behind_them(roll: Stack) -> None:
    people = put_people(roll, range(60))
    bad = frozenset(f"{user}.csv" for user in people[:12])  # a whole batch of them, and more
    failing = type("Failing", (Failing,), {"objects": bad})
    with application(roll, failing, batch_size="10") as made:
        summary = run(made)
        assert (summary["status"], summary["added"], summary["unreadable"]) == ("partial", 48, 12)
        assert (summary["segments"]["remaining"], summary["remaining"]) == (0, 12)
        assert not summary["continued"]  # another run at once would find the same
    assert users(roll) == people[12:]
    assert roll.process()["added"] == 12


def test_when_nothing_can_be_read_the_run_fails_with_the_reason(roll: Stack) -> None:
    people = put_people(roll, range(3))
    failing = type("Failing", (Failing,), {"objects": frozenset(f"{user}.csv" for user in people)})
    with application(roll, failing) as made, pytest.raises(Unavailable, match="500 for 0002"):
        run(made)
    assert roll.sql("select status from runs") == [["failed"]]


def test_a_segment_that_can_not_be_listed_stops_no_other_and_goes_to_the_end_of_the_line(roll: Stack) -> None:
    put_people(roll, range(60))
    with application(roll, segment_keys="20", workers="1") as made:
        run(made)
    [_, bad, *_] = starts(roll)
    people = put_people(roll, range(60, 70))
    roll.bucket.put_person("0001", last="Changed")
    failing = type("Failing", (Failing,), {"starts": frozenset([bad])})
    with application(roll, failing, segment_keys="20", workers="1") as made:
        summary = run(made)
        assert (summary["status"], summary["added"], summary["updated"]) == ("partial", len(people), 1)
        assert summary["segments"]["remaining"] == 1
        [[first]] = roll.sql("select start from segments order by turn limit 1")
        assert first != bad
        failed: Any = made.objects
        assert failed.failed == [bad]  # it was tried once in the run
        assert run(made)["segments"]["remaining"] == 1
    assert roll.process()["status"] == "done"


def test_a_full_run_is_done_beside_a_steady_flow_of_events(roll: Stack) -> None:
    people = put_people(roll, range(200))
    ended = threading.Event()

    def change() -> int:
        sent = 0
        while not ended.is_set():
            user = people[sent % 20]
            roll.bucket.put_person(user, birthts=sent)
            assert roll.event(f"{user}.csv").status == 200
            sent += 1
        return sent

    with application(roll, segment_keys="20") as made, ThreadPoolExecutor(1) as executor:
        events = executor.submit(change)
        try:
            summaries = [run(made) for _ in range(5)]
        finally:
            ended.set()
        assert events.result() > 5
    assert [summary["status"] for summary in summaries] == ["done"] * 5
    assert roll.process()["added"] == 0
    assert roll.sql("select count(*) from hints") == [[0]]


def test_sessions_end_when_their_client_vanishes_or_freezes(roll: Stack) -> None:
    with application(roll) as made, made.pool.connection() as session:
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout",
                 "idle_session_timeout", "idle_in_transaction_session_timeout")  # fmt: skip
        values = [session.run(f"show {name}")[0][0] for name in names]
        assert values == ["20", "10", "3", "60000", "1min", "1min"]
        session._used -= 30
        used = session._used
        session.keep_alive()
        assert session._used > used
        again = session._used
        session.keep_alive()
        assert session._used == again


def test_a_deadline_is_over_when_its_time_is_or_when_it_is_told_to_stop() -> None:
    stopping = threading.Event()
    deadline = Deadline(60, stopping)
    assert not deadline.expired
    assert 50 < deadline.remaining <= 60 < deadline.remaining_with(5) <= 65
    deadline.cancel()
    assert (deadline.expired, deadline.remaining_with(5)) == (True, 0)
    deadline.resume()
    assert not deadline.expired
    stopping.set()
    assert (deadline.expired, deadline.remaining_with(5)) == (True, 0)
    short = Deadline(0.01, threading.Event())
    short.sleep(60)
    assert (short.expired, short.elapsed_fraction >= 1) == (True, True)


def test_events_are_tried_in_every_segment_they_name(roll: Stack) -> None:
    people = put_people(roll, range(60))
    with application(roll, segment_keys="10") as made:
        run(made)
        for user in people[::7]:
            roll.bucket.put_person(user, last="Changed")
        names = tuple(f"{user}.csv" for user in people[::7])
        summary = run(made, Trigger.EVENT, objects=names)
        assert (summary["status"], summary["updated"], summary["listed"]) == ("done", len(names), len(names))
    assert roll.sql("select count(*) from users where last_name = 'Changed'") == [[len(names)]]


@pytest.mark.parametrize("keys", ["5", "5000"])
def test_a_folder_beside_a_users_keys_hides_nobody(roll: Stack, keys: str) -> None:
    """A server may list the folder 12/ before 12.csv, as the name 12 sorts before it."""
    numbers = [str(number) for number in range(10, 30)] + [f"11{number}" for number in range(6)]
    for number in numbers:
        roll.bucket.put_person(number)
    roll.bucket.put("0/x", b"")
    roll.bucket.put("12/x", b"")
    roll.bucket.put("12.png", b"photo")
    with application(roll, segment_keys=keys) as made:
        for _ in range(3):
            assert run(made)["status"] == "done"
            assert users(roll) == sorted(numbers)
            assert roll.sql("select user_id from users where img_path is not null") == [["12"]]


def test_keys_between_those_of_a_user_may_be_any_number(roll: Stack) -> None:
    """Segments end among them, and the user still has the photo behind them."""
    roll.bucket.put_person("12")
    roll.bucket.put("12.png", b"photo")
    roll.bucket.put_person("13")
    bad = [f"12.d{number:02}.csv" for number in range(30)]
    for key in bad:
        roll.bucket.put(key, b"")
    with application(roll, segment_keys="5") as made:
        for _ in range(2):
            summary = run(made)
            assert (summary["status"], summary["listed"], summary["rejected"]) == ("done", 33, len(bad))
            assert roll.sql("select user_id, img_path from users order by user_id") == [
                ["12", "src/12.png"],
                ["13", None],
            ]
        assert len(starts(roll)) >= 6
        roll.bucket.remove("12.png")
        assert run(made)["images_changed"] == 1


def test_an_object_that_hangs_holds_up_nobody_behind_it(roll: Stack) -> None:
    people = put_people(roll, range(40))
    released = threading.Event()

    class Hanging(Objects):
        def get(self, bucket: str, key: str, *, limit: int) -> Object:
            if key == "0003.csv":
                released.wait(60)
            return super().get(bucket, key, limit=limit)

    with application(roll, Hanging, batch_size="10", fetch_threads="8", run_deadline="1") as made:
        summary = run(made)
        released.set()
    assert (summary["status"], summary["unreadable"]) == ("partial", 1)
    assert set(users(roll)) >= set(people[:10]) - {"0003"}
    assert roll.process()["status"] == "done"
    assert users(roll) == people


def test_a_few_objects_that_can_not_be_read_are_no_failure_of_a_run_that_has_nothing_else_to_do(roll: Stack) -> None:
    people = put_people(roll, range(20))
    bad = frozenset(f"{user}.csv" for user in people[:3])
    failing = type("Failing", (Failing,), {"objects": bad})
    with application(roll, failing) as made:
        for unchanged in (0, 17):
            summary = run(made)
            assert (summary["status"], summary["unreadable"], summary["unchanged"]) == ("partial", 3, unchanged)


class Unlisted(Objects):
    """S3 that can't list what begins like user 1's keys."""

    def list_page(self, bucket: str, *, prefix: str = "", **named: Any) -> ListingPage:
        if prefix.startswith("1."):
            raise Refused("s3", "S3 answered 400 for the prefix 1.")
        return super().list_page(bucket, prefix=prefix, **named)


def test_a_hint_that_can_not_be_looked_at_holds_up_nothing(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.bucket.put_person("2")
    with application(roll, Unlisted) as made:
        assert run(made, Trigger.EVENT, objects=("1.csv",))["remaining"] == 1
        assert roll.sql("select object from hints") == [["1.csv"]]
        summary = run(made)
        assert (summary["status"], summary["added"]) == ("done", 2)  # the scan of its segment covers it
    assert roll.sql("select count(*) from hints") == [[0]]


def test_what_failed_is_recorded_when_it_took_the_session_with_it(roll: Stack) -> None:
    roll.bucket.put_person("1")

    class Unwritable(Objects):
        def put(self, bucket: str, key: str, chunks: Iterable[bytes], *, content_type: str) -> str:
            raise Refused("s3", f"S3 answered 403 for {bucket}/{key}")

    with application(roll, Unwritable) as made, pytest.raises(Refused):
        run(made)
    [[status, error]] = roll.sql("select status, error from runs")
    assert (status, "403 for res/" in error) == ("failed", True)


def test_a_process_is_busy_when_two_scans_have_enough_to_fetch(roll: Stack) -> None:
    def busy(**fetching: int) -> bool:
        with ExitStack() as scans:
            for scan, number in fetching.items():
                scans.enter_context(made.fetching(scan, number))
            return made.is_busy

    with application(roll, fetch_threads="4") as made:
        assert not busy(one=50)  # nothing is fetched while it lists or stores
        assert not busy(one=50, other=0)
        assert busy(one=50, other=1)
        assert not busy(one=2, other=1)
        with made.fetching("one", 50):  # as expected before its listing is known
            assert busy(other=1)
            with made.fetching("one", 2):
                assert not busy(other=1)
            assert busy(other=1)
        assert not busy(other=1)


class Traced(Objects):
    """S3 whose calls are noted: pages of a range, and objects."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.calls: list[str] = []

    def list_page(self, bucket: str, **named: Any) -> ListingPage:
        if "prefix" not in named:
            self.calls.append("page")
        return super().list_page(bucket, **named)

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        self.calls.append("get")
        return super().get(bucket, key, limit=limit)


@pytest.mark.parametrize(("is_fetching", "pages"), [(False, 1), (True, 3)])
def test_fetching_begins_after_a_page_while_nothing_else_is_fetched(
    roll: Stack, *, is_fetching: bool, pages: int
) -> None:
    with simulated_s3(people=2500, photos=0) as simulator, ExitStack() as stack:
        endpoint = {"s3_endpoint": simulator.endpoint, "s3_secure": "false"}
        made = stack.enter_context(application(roll, Traced, workers="1", **endpoint))
        if is_fetching:
            stack.enter_context(made.fetching(object(), 1))
        assert run(made)["added"] == 2500
        assert isinstance(made.objects, Traced)
        assert made.objects.calls.index("get") == pages
        assert len(starts(roll)) == 1  # what was cut is merged


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_claim_locks_one_segment_whatever_plan_postgresql_makes(roll: Stack, *, analyzed: bool) -> None:
    """A lock that was taken in passing would keep everyone else from its segment as long as the session lives."""
    roll.sql("insert into segments (start) values ('12'), ('12.png'), ('2')")
    roll.sql("insert into hints select user_id || '.csv', 0 from unnest(array['0', '12', '13', '3']) as user_id")
    if analyzed:
        roll.sql("analyze segments")
        roll.sql("analyze hints")
    with application(roll) as made, made.pool.connection() as connection:

        def held() -> list[int]:
            sql = "select objid::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
            return [number for (number,) in connection.run(sql)]

        claims: dict[str, Callable[[], segments.Segment | None]] = {
            "due": lambda: segments.claim(connection, 1, ()),
            "hinted": lambda: segments.claim_hinted(connection, ()),
            "named": lambda: segments.claim_hinted(connection, (), ["12.csv", "3.csv"]),
        }
        for name, claim in claims.items():
            segment = claim()
            assert segment is not None
            assert held() == [segment.id], name
            locks.unlock(connection, locks.SEGMENT, segment.id)
            again = segments.claim_again(connection, segment)
            assert held() == ([] if again is None else [segment.id]), name
            if again is not None:
                locks.unlock(connection, locks.SEGMENT, segment.id)
