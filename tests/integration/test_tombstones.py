"""Nothing but a newer file brings an erased person back."""

import time

import pytest
from process_data.runs import Trigger
from process_data.shared.storage.objects import Object, Objects

from tests.proxy import counting
from tests.rows import NEW_SECOND, exported, rows
from tests.runs import application, run
from tests.stack import Stack


def test_the_file_that_is_still_there_brings_nobody_back(roll: Stack) -> None:
    for user_id in ("1", "2"):
        roll.bucket.put_person(user_id)
    roll.bucket.put("1.png", b"photo")
    roll.process()
    roll.erase("1")
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
    roll.erase("1")
    time.sleep(NEW_SECOND)
    roll.bucket.put_person("1")
    assert roll.process()["added"] == 1
    assert rows(roll) == ["1"]
    assert rows(roll, "erased") == []
    assert exported(roll) == ["1"]
    assert roll.bucket.read_rows("erased.csv") == []


def test_erasing_again_once_the_file_is_removed_does_not_weaken_the_tombstone(roll: Stack) -> None:
    """Else an older version of the file, restored in a versioned bucket, would bring the person back."""
    roll.bucket.put_person("1")
    roll.process()
    roll.erase("1")
    before = roll.sql("select csv_modified, changed from erased")
    roll.bucket.remove("1.csv")
    roll.erase("1")
    assert roll.sql("select csv_modified, changed from erased") == before


def test_an_older_file_brings_nobody_back_whatever_its_etag(roll: Stack) -> None:
    """As when a version of a versioned bucket is restored: another content, and not newer."""
    roll.bucket.put_person("1")
    roll.process()
    roll.erase("1")
    time.sleep(NEW_SECOND)
    roll.bucket.put_person("1", first="Restored")
    roll.sql("update erased set csv_modified = cast(:modified as timestamptz)", modified=roll.bucket.modified("1.csv"))
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
    roll.erase("1")
    time.sleep(NEW_SECOND)
    roll.bucket.put("1.csv", content)
    with application(roll, Replaced) as made:
        summary = run(made)
    assert (summary["added"], summary["rejected"]) == (0, 0)
    assert rows(roll) == []


def test_a_newer_file_that_is_rejected_leaves_the_tombstone(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    roll.erase("1")
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
    summary = roll.erase("1")
    assert (summary["erased"], summary["not_found"]) == (["1"], [])
    assert roll.sql("select csv_modified from erased") == [[None]]
    roll.bucket.put_person("1")
    assert roll.process()["added"] == 1
