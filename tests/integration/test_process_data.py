"""The table and output.csv follow the bucket, and nothing else changes."""

import gzip
import io
from concurrent.futures import ThreadPoolExecutor

from process_data.runs import Trigger

from tests.rows import output, people, snapshot
from tests.runs import application, counts, proxied, run
from tests.stack import Stack


def test_people_and_photos_are_stored_and_exported(roll: Stack) -> None:
    roll.bucket.put_person("1000", "Ada", "Lovelace", -4858099200000 // 10)
    roll.bucket.put_person("0001", '"Tu, ring"', "Alan", 5)
    roll.bucket.put_person("1", "Grace", "Hopper", 6)
    roll.bucket.put("1000.png", b"png")
    roll.bucket.put("0001.jpeg", b"jpeg")
    roll.bucket.put("0001.jpg", b"jpg")
    roll.bucket.put("77.png", b"without a user")
    roll.bucket.put("notes.txt", b"ignored")
    roll.bucket.put("folder/5.csv", b"ignored")
    summary = roll.process()
    assert counts(summary) == {"listed": 9, "added": 3, "ignored": 2}
    assert set(summary["seconds"]) == {"list", "reconcile", "fetch", "parse", "store", "export", "total"}
    assert output(roll) == people(roll)
    assert [(row["user_id"], row["img_path"]) for row in people(roll)] == [
        ("0001", "src/0001.jpg"),
        ("1", ""),
        ("1000", "src/1000.png"),
    ]
    assert roll.sql("select birthdate::text from users where user_id = '1000'") == [["1954-08-10"]]


def test_a_run_over_an_unchanged_bucket_changes_nothing(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.bucket.put("1.png", b"png")
    roll.bucket.put("2.csv", b"")
    roll.process()
    before = snapshot(roll)
    etag = roll.bucket.client.stat_object(bucket_name="res", object_name="output.csv")
    summary = roll.process()
    assert counts(summary) == {"listed": 3, "unchanged": 1, "rejected": 1}
    assert summary["output"] == {"object": "res/output.csv", "rows": 1, "written": False, "pending": False}
    assert snapshot(roll) == before
    again = roll.bucket.client.stat_object(bucket_name="res", object_name="output.csv")
    assert (again.etag, again.last_modified) == (etag.etag, etag.last_modified)


def test_a_changed_csv_updates_its_user(roll: Stack) -> None:
    roll.bucket.put_person("1", last="Byron")
    roll.bucket.put_person("2")
    roll.process()
    [[identity]] = roll.sql("select id from users where user_id = '1'")
    roll.bucket.put_person("1", last="Lovelace")
    summary = roll.process()
    assert counts(summary) == {"listed": 2, "updated": 1, "unchanged": 1}
    assert output(roll) == people(roll)
    assert roll.sql("select id, last_name from users where user_id = '1'") == [[identity, "Lovelace"]]


def test_a_new_file_with_the_same_content_is_no_change(roll: Stack) -> None:
    roll.bucket.put("1.csv", b"first_name,last_name,birthts\nAda,Lovelace,0\n")
    roll.process()
    roll.bucket.put("1.csv", b"first_name,last_name,birthts\r\nAda,Lovelace,0\r\n")
    summary = roll.process()
    assert counts(summary) == {"listed": 1, "unchanged": 1}
    assert not summary["output"]["written"]


def test_photos_are_added_replaced_and_removed(roll: Stack) -> None:
    def image() -> str | None:
        [[path]] = roll.sql("select img_path from users")
        assert output(roll) == people(roll)
        return path  # type: ignore[no-any-return]

    roll.bucket.put_person("1")
    roll.process()
    assert image() is None
    for key, expected in (("1.jpeg", "src/1.jpeg"), ("1.jpg", "src/1.jpg"), ("1.png", "src/1.png")):
        roll.bucket.put(key, b"photo")
        assert counts(roll.process())["images_changed"] == 1
        assert image() == expected
    roll.bucket.remove("1.jpeg")
    assert "images_changed" not in counts(roll.process())
    roll.bucket.remove("1.png")
    roll.process()
    assert image() == "src/1.jpg"
    roll.bucket.remove("1.jpg")
    roll.process()
    assert image() is None


def test_removing_a_csv_keeps_its_user(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.bucket.put("1.png", b"photo")
    roll.bucket.put_person("2")
    roll.process()
    roll.bucket.remove("1.csv")
    assert counts(roll.process()) == {"listed": 2, "unchanged": 1}
    assert [row["img_path"] for row in output(roll)] == ["src/1.png", ""]
    roll.bucket.remove("1.png")
    assert counts(roll.process()) == {"listed": 1, "unchanged": 1, "images_changed": 1}
    assert [row["img_path"] for row in output(roll)] == ["", ""]


def test_an_older_version_can_be_uploaded_again(roll: Stack) -> None:
    for last in ("First", "Second", "First"):
        roll.bucket.put_person("1", last=last)
        assert roll.process()["rejected"] == 0
        assert [row["last_name"] for row in output(roll)] == [last]
    roll.sql("update users set last_name = 'Newer', csv_etag = 'newer', csv_modified = now() + interval '1 day'")
    assert counts(roll.process()) == {"listed": 1, "updated": 1}
    assert [row["last_name"] for row in output(roll)] == ["First"]


def test_content_encoding_is_ignored(roll: Stack) -> None:
    """It could expand a thousand bytes to gigabytes, and an invalid encoding would fail every run."""
    person = b"first_name,last_name,birthts\nAda,Lovelace,0\n"
    for key, body in (("1.csv", person), ("2.csv", gzip.compress(person)), ("3.csv", person)):
        encoding: dict[str, str | list[str] | tuple[str]] = {} if key == "3.csv" else {"Content-Encoding": "gzip"}
        roll.bucket.client.put_object(
            bucket_name="src", object_name=key, data=io.BytesIO(body), length=len(body), metadata=encoding
        )
    summary = roll.process()
    assert counts(summary) == {"listed": 3, "added": 2, "rejected": 1}
    assert summary["rejections"][0]["object"] == "2.csv"


def test_thousands_of_people_are_fetched_once(roll: Stack) -> None:
    def put(number: int) -> None:
        roll.bucket.put_person(f"{number:05}", birthts=number)
        if number % 2:
            roll.bucket.put(f"{number:05}.png", b"photo")

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(put, range(3000)))
    with application(roll, run_deadline="600", segment_keys="3000") as app:
        assert counts(run(app)) == {"listed": 4500, "added": 3000}
    assert output(roll) == people(roll)
    assert len(output(roll)) == len({row["user_id"] for row in output(roll)}) == 3000
    with proxied(roll, run_deadline="600", segment_keys="3000") as (app, requests):
        assert counts(run(app)) == {"listed": 4500, "unchanged": 3000}
        assert requests.keys() == {"LIST", "HEAD"}
        assert 5 <= requests["LIST"] <= 7  # two segments, which may end within a page
        assert requests["HEAD"] == 4  # the outputs, and erased.csv at the start
        requests.clear()
        roll.bucket.put_person("00001", birthts=-1)
        roll.sql("update outputs set written_at = null")  # the export is due at once
        assert counts(run(app, Trigger.EVENT, objects=("00001.csv",))) == {"listed": 2, "updated": 1}
        assert requests == {"LIST": 1, "GET": 1, "HEAD": 4, "UPLOADS": 1, "PUT": 1}
    assert output(roll) == people(roll)
