"""Hints: what an event names is looked at, by whoever holds the segment or comes next."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from process_data import segments
from process_data.runs import Trigger
from process_data.shared.storage.errors import AccessDenied
from process_data.shared.storage.listing import ListingPage
from process_data.shared.storage.objects import Objects

from tests.rows import rows
from tests.runs import Paused, application, put_people, run
from tests.stack import Stack


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
    assert rows(roll) == ["1", "2"]
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


class Unlisted(Objects):
    """S3 that can't list what begins like user 1's keys."""

    def list_page(self, bucket: str, *, prefix: str = "", **named: Any) -> ListingPage:
        if prefix.startswith("1."):
            raise AccessDenied("s3", "S3 answered 400 for the prefix 1.")
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
