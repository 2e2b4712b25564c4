"""Only a newer file restores an erased person."""

import time

import pytest
from process_data.runs import Trigger
from process_data.shared.storage.objects import Object, Objects

from tests.proxy import counting
from tests.rows import NEW_SECOND, exported, rows
from tests.runs import application, run
from tests.stack import Stack


def test_the_remaining_file_does_not_restore_an_erased_person(roll: Stack) -> None:
    for user_id in ("1", "2"):
        roll.bucket.put_person(user_id)
    roll.bucket.put("1.png", b"photo")
    roll.process()
    roll.erase("1")
    s3 = counting(roll.process_settings["s3_endpoint"])
    with s3 as (endpoint, requests), application(roll, s3_endpoint=endpoint) as app:
        assert run(app)["added"] == 0
        assert run(app, objects=["1.csv"])["added"] == 0
        assert run(app, Trigger.EVENT, objects=["1.csv"])["added"] == 0
        assert requests["GET"] == 0  # without any requests for the file
    assert rows(roll) == ["2"]
    assert exported(roll) == ["2"]


def test_a_newer_file_restores_the_person_even_with_the_same_content(roll: Stack) -> None:
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
    """Otherwise an older version of the file in a versioned bucket could restore the person."""
    roll.bucket.put_person("1")
    roll.process()
    roll.erase("1")
    before = roll.sql("select csv_modified, changed from erased")
    roll.bucket.remove("1.csv")
    roll.erase("1")
    assert roll.sql("select csv_modified, changed from erased") == before


def test_an_older_file_does_not_restore_an_erased_person(roll: Stack) -> None:
    """As when a version in a versioned bucket is restored: different content, but not newer."""
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
    """S3 in which an object is replaced by an older one between the listing and the GET."""

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        fetched = super().get(bucket, key, limit=limit)
        return Object(fetched.body, fetched.etag, fetched.modified.replace(year=2000))


@pytest.mark.parametrize("content", [b"first_name,last_name,birthts\nAda,Lovelace,0\n", b"wrong\n"])
def test_the_fetched_last_modified_decides_and_not_the_listed_one(roll: Stack, content: bytes) -> None:
    roll.bucket.put_person("1")
    roll.process()
    roll.erase("1")
    time.sleep(NEW_SECOND)
    roll.bucket.put("1.csv", content)
    with application(roll, Replaced) as app:
        summary = run(app)
    assert (summary["added"], summary["rejected"]) == (0, 0)
    assert rows(roll) == []


def test_a_newer_file_that_is_rejected_keeps_the_tombstone(roll: Stack) -> None:
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


def test_any_file_restores_a_person_erased_without_a_file(roll: Stack) -> None:
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
