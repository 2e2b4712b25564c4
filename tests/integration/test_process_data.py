"""A run makes `users` and output.csv match the bucket, and leaves unchanged what already matches.

Users whose CSV was removed stay.
"""

import gzip
import io
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from process_data.runs import Trigger

from tests.benchmarks import scaling
from tests.rows import output, people, snapshot
from tests.runs import application, counts, proxied, run
from tests.stack import Stack


def test_people_and_photos_are_stored_and_exported(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1000", "Ada", "Lovelace", -485809920000)
    rollcall.bucket.put_person("0001", '"Tu, ring"', "Alan", 5)
    rollcall.bucket.put_person("1", "Grace", "Hopper", 6)
    rollcall.bucket.put("1000.png", b"png")
    rollcall.bucket.put("0001.jpeg", b"jpeg")
    rollcall.bucket.put("0001.jpg", b"jpg")
    rollcall.bucket.put("77.png", b"without a user")
    rollcall.bucket.put("notes.txt", b"ignored")
    rollcall.bucket.put("folder/5.csv", b"ignored")
    summary = rollcall.process()
    assert counts(summary) == {"listed": 9, "added": 3, "ignored": 2}
    assert set(summary["seconds"]) == {"list", "reconcile", "fetch", "parse", "store", "export", "total"}
    assert output(rollcall) == people(rollcall)
    assert [(row["user_id"], row["img_path"]) for row in people(rollcall)] == [
        ("0001", "src/0001.jpg"),
        ("1", ""),
        ("1000", "src/1000.png"),
    ]
    assert rollcall.sql("select birthdate::text from users where user_id = '1000'") == [["1954-08-10"]]


def test_a_run_over_an_unchanged_bucket_leaves_users_rejections_and_outputs_unchanged(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("1.png", b"png")
    rollcall.bucket.put("2.csv", b"")
    rollcall.process()
    before = snapshot(rollcall)
    object_before = rollcall.bucket.client.stat_object(bucket_name="res", object_name="output.csv")
    summary = rollcall.process()
    assert counts(summary) == {"listed": 3, "unchanged": 1, "rejected": 1}
    assert summary["output"] == {"object": "res/output.csv", "rows": 1, "written": False, "pending": False}
    assert snapshot(rollcall) == before
    object_after = rollcall.bucket.client.stat_object(bucket_name="res", object_name="output.csv")
    assert (object_after.etag, object_after.last_modified) == (object_before.etag, object_before.last_modified)


def test_a_changed_csv_updates_its_user(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1", last="Byron")
    rollcall.bucket.put_person("2")
    rollcall.process()
    [[row_id, updated_at]] = rollcall.sql("select id, updated_at from users where user_id = '1'")
    for first, last, birthts in (("Ada", "Lovelace", 0), ("Augusta", "Lovelace", 0), ("Augusta", "Lovelace", 5)):
        rollcall.bucket.put_person("1", first, last, birthts)
        assert counts(rollcall.process()) == {"listed": 2, "updated": 1, "unchanged": 1}
        assert output(rollcall) == people(rollcall)
    query = "select id, first_name, last_name, birthts, updated_at > :before from users where user_id = '1'"
    assert rollcall.sql(query, before=updated_at) == [[row_id, "Augusta", "Lovelace", 5, True]]


def test_a_new_file_with_the_same_values_counts_as_unchanged(rollcall: Stack) -> None:
    rollcall.bucket.put("1.csv", b"first_name,last_name,birthts\nAda,Lovelace,0\n")
    rollcall.process()
    rollcall.bucket.put("1.csv", b"first_name,last_name,birthts\r\nAda,Lovelace,0\r\n")
    summary = rollcall.process()
    assert counts(summary) == {"listed": 1, "unchanged": 1}
    assert not summary["output"]["written"]


def test_photos_are_added_replaced_and_removed(rollcall: Stack) -> None:
    def img_path() -> str | None:
        [[path]] = rollcall.sql("select img_path from users")
        assert output(rollcall) == people(rollcall)
        return path  # type: ignore[no-any-return]

    rollcall.bucket.put_person("1")
    rollcall.process()
    assert img_path() is None
    updated_at = rollcall.sql("select updated_at from users")
    for key, expected in (("1.jpeg", "src/1.jpeg"), ("1.jpg", "src/1.jpg"), ("1.png", "src/1.png")):
        rollcall.bucket.put(key, b"photo")
        assert counts(rollcall.process())["images_changed"] == 1
        assert img_path() == expected
    assert rollcall.sql("select updated_at from users") > updated_at
    rollcall.bucket.remove("1.jpeg")
    assert "images_changed" not in counts(rollcall.process())
    rollcall.bucket.remove("1.png")
    rollcall.process()
    assert img_path() == "src/1.jpg"
    rollcall.bucket.remove("1.jpg")
    rollcall.process()
    assert img_path() is None


def test_removing_a_csv_keeps_its_user(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("1.png", b"photo")
    rollcall.bucket.put_person("2")
    rollcall.process()
    rollcall.bucket.remove("1.csv")
    assert counts(rollcall.process()) == {"listed": 2, "unchanged": 1}
    assert [row["img_path"] for row in output(rollcall)] == ["src/1.png", ""]
    rollcall.bucket.remove("1.png")
    assert counts(rollcall.process()) == {"listed": 1, "unchanged": 1, "images_changed": 1}
    assert [row["img_path"] for row in output(rollcall)] == ["", ""]


def test_an_older_version_replaces_a_newer_one(rollcall: Stack) -> None:
    for last in ("First", "Second", "First"):
        rollcall.bucket.put_person("1", last=last)
        assert rollcall.process()["rejected"] == 0
        assert [row["last_name"] for row in output(rollcall)] == [last]
    rollcall.sql("update users set last_name = 'Newer', csv_etag = 'newer', csv_modified = now() + interval '1 day'")
    assert counts(rollcall.process()) == {"listed": 1, "updated": 1}
    assert [row["last_name"] for row in output(rollcall)] == ["First"]
    query = "select csv_modified = cast(:modified as timestamptz) from users"
    assert rollcall.sql(query, modified=rollcall.bucket.modified("1.csv")) == [[True]]


def test_content_encoding_is_ignored(rollcall: Stack) -> None:
    """Decoding could expand a small body to gigabytes, and a body that cannot be decoded would fail every run."""
    person = b"first_name,last_name,birthts\nAda,Lovelace,0\n"
    for key, body in (("1.csv", person), ("2.csv", gzip.compress(person)), ("3.csv", person)):
        encoding: dict[str, str | list[str] | tuple[str]] = {} if key == "3.csv" else {"Content-Encoding": "gzip"}
        rollcall.bucket.client.put_object(
            bucket_name="src", object_name=key, data=io.BytesIO(body), length=len(body), metadata=encoding
        )
    summary = rollcall.process()
    assert counts(summary) == {"listed": 3, "added": 2, "rejected": 1}
    assert summary["rejections"][0]["object"] == "2.csv"


def test_thousands_of_people_are_stored_and_not_fetched_again(rollcall: Stack) -> None:
    def put(number: int) -> None:
        rollcall.bucket.put_person(f"{number:05}", birthts=number)
        if number % 2:
            rollcall.bucket.put(f"{number:05}.png", b"photo")

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(put, range(2000)))
    with application(rollcall, run_deadline="600", segment_keys="2000") as app:
        assert counts(run(app)) == {"listed": 3000, "added": 2000}
    assert output(rollcall) == people(rollcall)
    assert len(output(rollcall)) == len({row["user_id"] for row in output(rollcall)}) == 2000
    with proxied(rollcall, run_deadline="600", segment_keys="2000") as (app, requests):
        assert counts(run(app)) == {"listed": 3000, "unchanged": 2000}
        assert requests.keys() == {"LIST", "HEAD"}
        assert 4 <= requests["LIST"] <= 6  # 3,000 keys in pages of 1,000; a segment may end within a page
        assert requests["HEAD"] == 4  # erased.csv at the start, and all three outputs before the export
        requests.clear()
        rollcall.bucket.put_person("00001", birthts=-1)
        rollcall.sql("update outputs set written_at = null")  # so that the next export is due
        assert counts(run(app, Trigger.EVENT, keys=("00001.csv",))) == {"listed": 2, "updated": 1}
        assert requests == {"LIST": 1, "GET": 1, "HEAD": 4, "UPLOADS": 1, "PUT": 1}
    assert output(rollcall) == people(rollcall)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_bucket(rollcall: Stack) -> None:
    """The buckets are simulated. In each, 1,000 users are new."""
    peaks = []
    for size in (20_000, 100_000):
        [row] = scaling.memory(rollcall, people=size, photos=size // 2, gap=size // 1000)
        peaks.append(row.own.median)
    assert peaks[1] < peaks[0] + 16  # MiB
