"""Which files restore an erased person, and which do not."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from process_data.runs import Trigger
from process_data.shared.storage.errors import Unavailable
from process_data.shared.storage.listing import ObjectInfo
from process_data.shared.storage.objects import Object, Objects
from process_data.tombstones import _parse_modified, allows, modified_of

from tests.rows import NEW_SECOND, exported, rows
from tests.runs import application, run
from tests.s3_proxy import counting
from tests.stack import Stack


def test_a_file_from_before_the_erasure_does_not_restore_the_person(rollcall: Stack) -> None:
    for user_id in ("1", "2"):
        rollcall.bucket.put_person(user_id)
    rollcall.bucket.put("1.png", b"photo")
    rollcall.process()
    rollcall.erase("1")
    s3 = counting(rollcall.process_settings["s3_endpoint"])
    with s3 as (endpoint, requests), application(rollcall, s3_endpoint=endpoint) as app:
        assert run(app)["added"] == 0
        assert run(app, keys=["1.csv"])["added"] == 0
        assert run(app, Trigger.EVENT, keys=["1.csv"])["added"] == 0
        assert requests["GET"] == 0  # the file was not even requested
    assert rows(rollcall) == ["2"]
    assert exported(rollcall) == ["2"]


def test_a_newer_file_restores_the_person_even_with_the_same_content(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()
    rollcall.erase("1")
    time.sleep(NEW_SECOND)
    rollcall.bucket.put_person("1")
    assert rollcall.process()["added"] == 1
    assert rows(rollcall) == ["1"]
    assert rows(rollcall, "erased") == []
    assert exported(rollcall) == ["1"]
    assert rollcall.bucket.read_rows("erased.csv") == []


def test_erasing_again_once_the_file_is_removed_does_not_weaken_the_tombstone(rollcall: Stack) -> None:
    """Otherwise an older version of the file in a versioned bucket could restore the person."""
    rollcall.bucket.put_person("1")
    rollcall.process()
    rollcall.erase("1")
    before = rollcall.sql("select csv_modified, changed from erased")
    rollcall.bucket.remove("1.csv")
    rollcall.erase("1")
    assert rollcall.sql("select csv_modified, changed from erased") == before


def test_erasing_again_with_a_newer_file_renews_the_tombstone(rollcall: Stack) -> None:
    """Otherwise that file would restore the person."""
    rollcall.bucket.put_person("1")
    rollcall.erase("1")
    hour = "interval '1 hour'"
    rollcall.sql(f"update erased set erased_at = erased_at - {hour}, csv_modified = csv_modified - {hour}")
    tombstone = "select erased_at, csv_modified, changed from erased"
    [before] = rollcall.sql(tombstone)
    assert rollcall.erase("1")["erased"] == ["1"]
    [after] = rollcall.sql(tombstone)
    assert all(new > old for new, old in zip(after, before, strict=True))
    assert rollcall.process()["added"] == 0


def test_an_older_file_does_not_restore_an_erased_person(rollcall: Stack) -> None:
    """For example, an older version of the object that is current again: its content differs, but it is not newer."""
    rollcall.bucket.put_person("1")
    rollcall.process()
    rollcall.erase("1")
    time.sleep(NEW_SECOND)
    rollcall.bucket.put_person("1", first="Restored")
    rollcall.sql(
        "update erased set csv_modified = cast(:modified as timestamptz)", modified=rollcall.bucket.modified("1.csv")
    )
    assert rollcall.process()["added"] == 0  # an equal time is not newer
    rollcall.bucket.put("1.csv", b"first_name,last_name,birthts\nSecret,Hopper,Secret\n")
    rollcall.sql("update erased set csv_modified = csv_modified + interval '1 hour'")
    assert rollcall.process()["rejected"] == 0
    rollcall.bucket.put("1.csv", b"x" * 70_000)
    assert rollcall.process()["rejected"] == 0
    assert rows(rollcall) == []
    assert rows(rollcall, "rejected", "object") == []


class Reverted(Objects):
    """An S3 client whose GETs return an earlier Last-Modified than the listing."""

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        fetched = super().get(bucket, key, limit=limit)
        return Object(fetched.body, fetched.etag, fetched.modified.replace(year=2000))


@pytest.mark.parametrize("content", [b"first_name,last_name,birthts\nAda,Lovelace,0\n", b"wrong\n"])
def test_the_last_modified_of_the_fetched_object_decides(rollcall: Stack, content: bytes) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()
    rollcall.erase("1")
    time.sleep(NEW_SECOND)
    rollcall.bucket.put("1.csv", content)
    with application(rollcall, Reverted) as app:
        summary = run(app)
    assert (summary["added"], summary["rejected"]) == (0, 0)
    assert rows(rollcall) == []


def test_a_tombstone_stays_until_a_newer_file_is_valid(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()
    rollcall.erase("1")
    time.sleep(NEW_SECOND)
    rollcall.bucket.put("1.csv", b"wrong\n")
    assert rollcall.process()["rejected"] == 1
    assert rows(rollcall, "erased") == ["1"]
    rollcall.bucket.put_person("1")
    assert rollcall.process()["added"] == 1
    assert rows(rollcall, "erased") == []


def test_a_person_whose_file_was_removed_before_the_erasure_returns_only_with_a_newer_file(rollcall: Stack) -> None:
    """Otherwise a snapshot of the bucket or an older version of the file could restore the person."""
    rollcall.bucket.put_person("1")
    rollcall.process()
    modified = rollcall.bucket.modified("1.csv")
    rollcall.bucket.remove("1.csv")
    assert rollcall.erase("1")["erased"] == ["1"]
    [tombstone] = rollcall.bucket.read_rows("erased.csv")
    assert tombstone["csv_modified"] == modified
    time.sleep(NEW_SECOND)
    rollcall.bucket.put_person("1")
    assert rollcall.process()["added"] == 1


def test_a_person_who_was_erased_before_the_first_upload_can_be_imported(rollcall: Stack) -> None:
    assert rollcall.erase("1")["not_found"] == ["1"]
    assert rollcall.sql("select csv_modified from erased") == [[None]]
    rollcall.bucket.put_person("1")
    assert rollcall.process()["added"] == 1


def test_times_are_compared_in_whole_seconds() -> None:
    """Listings may have fractions of a second. The Last-Modified of a GET has none."""
    modified = datetime(2026, 1, 1, microsecond=900_000, tzinfo=UTC)
    erased = modified_of([ObjectInfo("1.csv", "e", 1, modified.isoformat())])
    assert erased == datetime(2026, 1, 1, tzinfo=UTC)
    assert not allows({"1": erased}, "1", modified)
    assert allows({"1": erased}, "1", modified + timedelta(seconds=1))


@pytest.mark.parametrize("modified", ["yesterday", "2026-01-01T00:00:00"])
def test_a_listed_time_that_is_invalid_or_lacks_a_time_zone_is_an_s3_error(modified: str) -> None:
    with pytest.raises(Unavailable, match="invalid bucket listing"):
        _parse_modified(modified)
