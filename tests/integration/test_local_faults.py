"""Faults stay where they are: an object, a segment or a session that fails stops nothing else."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from process_data.shared.storage.errors import AccessDenied, Unavailable
from process_data.shared.storage.objects import Object, Objects

from tests.rows import rows, starts
from tests.runs import Failing, application, counts, end_scans, put_people, run
from tests.stack import Stack


def test_objects_that_can_not_be_read_stop_nothing_behind_them(roll: Stack) -> None:
    people = put_people(roll, range(60))
    bad = frozenset(f"{user}.csv" for user in people[:12])  # a whole batch of them, and more
    failing = type("Failing", (Failing,), {"objects": bad})
    with application(roll, failing, batch_size="10") as made:
        summary = run(made)
        assert (summary["status"], summary["added"], summary["unreadable"]) == ("partial", 48, 12)
        assert (summary["segments"]["remaining"], summary["remaining"]) == (0, 12)
        assert not summary["continued"]  # another run at once would find the same
    assert rows(roll) == people[12:]
    assert roll.process()["added"] == 12


def test_a_few_objects_that_can_not_be_read_are_no_failure_of_a_run_that_has_nothing_else_to_do(roll: Stack) -> None:
    people = put_people(roll, range(20))
    bad = frozenset(f"{user}.csv" for user in people[:3])
    failing = type("Failing", (Failing,), {"objects": bad})
    with application(roll, failing) as made:
        for unchanged in (0, 17):
            summary = run(made)
            assert (summary["status"], summary["unreadable"], summary["unchanged"]) == ("partial", 3, unchanged)


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


class Ending(Objects):
    """S3 with a bystander who ends the session that scans when a user's CSV is read for the first time."""

    end: Callable[[], None]
    has_ended = False

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        if key == "0020.csv" and not self.has_ended:
            self.has_ended = True
            self.end()
        return super().get(bucket, key, limit=limit)


def test_a_scan_that_is_repeated_as_its_session_was_lost_is_counted_once(roll: Stack) -> None:
    """When the session ends, the first of three batches was stored, and nothing of the third one."""
    put_people(roll, range(30))
    roll.bucket.put("notes.txt", b"")
    roll.bucket.put("0005.csv", b"")
    with application(roll, Ending, batch_size="10", workers="1") as made:
        assert isinstance(made.objects, Ending)
        made.objects.end = lambda: end_scans(roll)
        summary = run(made)
        assert made.objects.has_ended
    assert counts(summary) == {"listed": 31, "added": 29, "ignored": 1, "rejected": 1}
    assert summary["segments"] == {"scanned": 1, "remaining": 0}
    [[stored]] = roll.sql("select count(distinct xmin::text) from users")
    assert stored > 1


def test_what_failed_is_recorded_when_it_took_the_session_with_it(roll: Stack) -> None:
    roll.bucket.put_person("1")

    class Unwritable(Objects):
        def put(self, bucket: str, key: str, chunks: Iterable[bytes], *, content_type: str) -> str:
            raise AccessDenied("s3", f"S3 answered 403 for {bucket}/{key}")

    with application(roll, Unwritable) as made, pytest.raises(AccessDenied):
        run(made)
    [[status, error]] = roll.sql("select status, error from runs")
    assert (status, "403 for res/" in error) == ("failed", True)
