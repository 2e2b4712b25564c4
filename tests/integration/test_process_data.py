"""What the bucket holds ends up in the table and in output.csv, and nothing else changes."""

import gzip
import io
from concurrent.futures import ThreadPoolExecutor

from process_data.runs import Trigger

from tests.rows import output, people
from tests.runs import application, counts, proxied, run
from tests.stack import Stack


def test_people_and_photos_end_up_in_table_and_output(roll: Stack) -> None:
    roll.bucket.put_person("1000", "Ada", "Lovelace", -4858099200000 // 10)
    roll.bucket.put_person("0001", '"Tu, ring"', "Alan", 5)
    roll.bucket.put_person("1", "Grace", "Hopper", 6)
    roll.bucket.put("1000.png", b"png")
    roll.bucket.put("0001.jpeg", b"jpeg")
    roll.bucket.put("0001.jpg", b"jpg")
    roll.bucket.put("77.png", b"nobody's")
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
    state = "select u.*, u.xmin::text, r.*, r.xmin::text from users u, rejected r"
    before = roll.sql(state)
    etag = roll.bucket.client.stat_object(bucket_name="res", object_name="output.csv")
    summary = roll.process()
    assert counts(summary) == {"listed": 3, "unchanged": 1, "rejected": 1}
    assert summary["output"] == {"object": "res/output.csv", "rows": 1, "written": False, "pending": False}
    assert roll.sql(state) == before
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


def test_the_same_content_in_another_file_is_no_change(roll: Stack) -> None:
    roll.bucket.put("1.csv", b"first_name,last_name,birthts\nAda,Lovelace,0\n")
    roll.process()
    roll.bucket.put("1.csv", b"first_name,last_name,birthts\r\nAda,Lovelace,0\r\n")
    summary = roll.process()
    assert counts(summary) == {"listed": 1, "unchanged": 1}
    assert not summary["output"]["written"]


def test_photos_come_change_and_go(roll: Stack) -> None:
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


def test_a_csv_that_disappears_leaves_its_user(roll: Stack) -> None:
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


def test_an_older_version_that_is_uploaded_again_is_accepted(roll: Stack) -> None:
    for last in ("First", "Second", "First"):
        roll.bucket.put_person("1", last=last)
        assert roll.process()["rejected"] == 0
        assert [row["last_name"] for row in output(roll)] == [last]
    roll.sql("update users set last_name = 'Newer', csv_etag = 'newer', csv_modified = now() + interval '1 day'")
    assert counts(roll.process()) == {"listed": 1, "updated": 1}
    assert [row["last_name"] for row in output(roll)] == ["First"]


def test_what_a_content_encoding_says_is_not_followed(roll: Stack) -> None:
    """It could turn a thousand bytes into gigabytes, and one wrong word of it would stop every run."""
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
    with application(roll, run_deadline="600", segment_keys="3000") as made:
        assert counts(run(made)) == {"listed": 4500, "added": 3000}
    assert output(roll) == people(roll)
    assert len(output(roll)) == len({row["user_id"] for row in output(roll)}) == 3000
    with proxied(roll, run_deadline="600", segment_keys="3000") as (made, asked):
        assert counts(run(made)) == {"listed": 4500, "unchanged": 3000}
        assert asked.keys() == {"LIST", "HEAD"}
        assert 5 <= asked["LIST"] <= 7  # two segments, which need not end with a page
        assert asked["HEAD"] == 4  # the outputs, and the mirror of tombstones before anything else
        asked.clear()
        roll.bucket.put_person("00001", birthts=-1)
        roll.sql("update outputs set written_at = null")  # it may be written again at once
        assert counts(run(made, Trigger.EVENT, objects=("00001.csv",))) == {"listed": 2, "updated": 1}
        assert asked == {"LIST": 1, "GET": 1, "HEAD": 4, "UPLOADS": 1, "PUT": 1}
    assert output(roll) == people(roll)
