"""process-data on real servers: what it takes in, refuses, keeps and writes."""

import csv
import gzip
import io
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from process_data.deadline import Deadline
from process_data.pipeline import Run
from process_data.request import Request
from process_data.settings import Settings
from process_data.shared.storage.objects import Objects
from process_data.shared.storage.settings import load
from process_data.tally import LOGGED

from tests.proxy import counting
from tests.replica import first_answer, replica
from tests.samples import samples
from tests.stack import Stack

COLUMNS = ["user_id", "first_name", "last_name", "birthts", "img_path"]


def output(roll: Stack) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(roll.bucket.read("output.csv").decode())))


def users(roll: Stack) -> list[dict[str, str]]:
    rows = roll.sql(f"select {', '.join(COLUMNS)} from users order by user_id")
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    return [dict(zip(COLUMNS, row, strict=True)) for row in texts]


def counts(summary: dict[str, Any]) -> dict[str, int]:
    names = ("listed", "added", "updated", "unchanged", "images_changed", "ignored", "rejected", "remaining")
    return {name: summary[name] for name in names if summary[name]}


def test_an_empty_bucket_gives_an_output_with_only_its_header(roll: Stack) -> None:
    summary = roll.process()
    assert (summary["status"], summary["trigger"], counts(summary)) == ("done", "http", {})
    assert summary["output"] == {"object": "res/output.csv", "rows": 0, "written": True}
    assert roll.bucket.read("output.csv") == b"user_id,first_name,last_name,birthts,img_path\n"


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
    assert set(summary["seconds"]) == {"list", "diff", "fetch", "parse", "store", "export", "total"}
    assert output(roll) == users(roll)
    assert [(row["user_id"], row["img_path"]) for row in users(roll)] == [
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
    assert summary["output"] == {"object": "res/output.csv", "rows": 1, "written": False}
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
    assert output(roll) == users(roll)
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
        assert output(roll) == users(roll)
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
    roll.process()
    roll.bucket.remove("1.csv")
    assert counts(roll.process()) == {"listed": 1}
    assert [row["img_path"] for row in output(roll)] == ["src/1.png"]
    roll.bucket.remove("1.png")
    assert counts(roll.process()) == {"images_changed": 1}
    assert [row["img_path"] for row in output(roll)] == [""]


def test_bad_objects_are_named_and_good_ones_go_through(roll: Stack) -> None:
    bad, good = samples("bad"), samples("good")
    expected = {}
    for number, sample in enumerate(bad):
        key = sample.key or f"{number}.csv"
        expected[key] = sample.expected
        roll.bucket.put(key, sample.body)
    for number, sample in enumerate(good, start=1000):
        roll.bucket.put(f"{number}.csv", sample.body)
    summary = roll.process()
    assert counts(summary) == {"listed": len(bad) + len(good), "added": len(good), "rejected": len(bad)}
    assert {one["object"]: (one["line"], one["code"]) for one in summary["rejections"]} == {
        key: (one["line"], one["code"]) for key, one in expected.items()
    }
    for one in summary["rejections"]:
        assert expected[one["object"]]["message"] in one["message"]
    recorded = roll.sql("select object, line, code, message from rejected order by object")
    assert recorded == [[one[name] for name in ("object", "line", "code", "message")] for one in summary["rejections"]]
    assert [(row["first_name"], row["last_name"], int(row["birthts"])) for row in output(roll)] == [
        (sample.expected["first_name"], sample.expected["last_name"], sample.expected["birthts"]) for sample in good
    ]
    assert output(roll) == users(roll)
    again = roll.process()
    assert again["seconds"]["fetch"] < 1
    assert again["rejections"] == summary["rejections"]


def test_the_former_good_row_stays_until_the_file_is_mended(roll: Stack) -> None:
    roll.bucket.put_person("1", last="Byron")
    roll.process()
    roll.bucket.put("1.csv", b"first_name,last_name,birthts\nAda,Lovelace,soon\n")
    summary = roll.process()
    assert counts(summary) == {"listed": 1, "rejected": 1}
    assert [row["last_name"] for row in output(roll)] == ["Byron"]
    roll.bucket.put("1.csv", b"first_name,last_name,birthts\nAda,Lovelace\n")
    [rejection] = roll.process()["rejections"]
    assert rejection["code"] == "wrong_field_count"
    roll.bucket.put_person("1", last="Lovelace")
    assert counts(roll.process()) == {"listed": 1, "updated": 1}
    assert [row["last_name"] for row in output(roll)] == ["Lovelace"]


def test_a_rejection_goes_with_its_file_or_with_the_former_version(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    for key in ("1.csv", "2.csv", "name.csv"):
        roll.bucket.put(key, b"nonsense")
    assert roll.process()["rejected"] == 3
    roll.bucket.put_person("1")
    roll.bucket.remove("2.csv")
    roll.bucket.remove("name.csv")
    assert counts(roll.process()) == {"listed": 1, "unchanged": 1}


def test_an_older_object_never_replaces_a_newer_one(roll: Stack) -> None:
    roll.bucket.put_person("1", last="Older")
    roll.process()
    roll.sql("update users set last_name = 'Newer', csv_etag = 'newer', csv_modified = now() + interval '1 day'")
    for _ in range(2):
        assert counts(summary := roll.process()) == {"listed": 1, "rejected": 1}
        assert summary["rejections"][0]["code"] == "older_version"
        assert [row["last_name"] for row in users(roll)] == ["Newer"]


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


def test_a_prefix_looks_at_its_users_alone(roll: Stack) -> None:
    for user_id in ("12", "120", "121", "13", "2"):
        roll.bucket.put_person(user_id)
    roll.bucket.put("129.csv", b"")
    roll.bucket.put("3.csv", b"")
    assert counts(roll.process("?prefix=12")) == {"listed": 4, "added": 3, "rejected": 1}
    assert [row["user_id"] for row in output(roll)] == ["12", "120", "121"]
    roll.sql("update users set img_path = 'src/gone.png'")
    roll.process()
    roll.sql("update users set img_path = 'src/gone.png'")
    assert counts(roll.process("?prefix=13"))["images_changed"] == 1
    assert roll.sql("select user_id from users where img_path is null") == [["13"]]


@pytest.mark.parametrize("lost", ["removed", "replaced"])
def test_an_output_that_was_lost_is_written_again(roll: Stack, lost: str) -> None:
    roll.bucket.put_person("1")
    roll.process()
    if lost == "removed":
        roll.bucket.remove("output.csv", "res")
    else:
        roll.bucket.client.put_object(bucket_name="res", object_name="output.csv", data=io.BytesIO(b"x"), length=1)
    assert roll.process()["output"] == {"object": "res/output.csv", "rows": 1, "written": True}
    assert output(roll) == users(roll)


def test_ten_thousand_people_are_read_once(roll: Stack) -> None:
    def put(number: int) -> None:
        roll.bucket.put_person(f"{number:05}", birthts=number)
        if number % 2:
            roll.bucket.put(f"{number:05}.png", b"photo")

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(put, range(10_000)))
    assert counts(roll.process()) == {"listed": 15_000, "added": 10_000}
    assert output(roll) == users(roll)
    assert len(output(roll)) == len({row["user_id"] for row in output(roll)}) == 10_000
    with counting(roll.process_settings["s3_endpoint"]) as (endpoint, asked):
        settings = load(Settings, {**roll.process_settings, "s3_endpoint": endpoint})
        objects = Objects(settings)

        def run(*prefixes: str) -> dict[str, Any]:
            asked.clear()
            request = Request("event" if prefixes != ("",) else "http", None, prefixes)
            return Run(settings, objects, request, Deadline(300, Event())).answer()

        assert counts(run("")) == {"listed": 15_000, "unchanged": 10_000}
        assert asked == {"LIST": 15, "HEAD": 2}
        roll.bucket.put_person("00001", birthts=-1)
        assert counts(run("00001.")) == {"listed": 2, "updated": 1}
        assert asked == {"LIST": 1, "GET": 1, "HEAD": 1, "PUT": 1}
    assert output(roll) == users(roll)


def test_a_run_is_recorded_with_its_trigger_and_counts(roll: Stack) -> None:
    roll.bucket.put_person("1")
    answer = roll.request("POST", "/function/process-data", X_Connector="cron-connector", X_Topic="cron-function")
    summary = answer.json()
    assert summary["trigger"] == "cron"
    [row] = roll.sql(
        "select id, trigger, call_id, status, summary -> 'added', error, finished_at >= started_at from runs"
    )
    assert row == [summary["run_id"], "cron", answer.headers["X-Call-Id"], "done", 1, None, True]


def test_a_run_and_its_new_rejections_are_logged_with_the_call_id(roll: Stack) -> None:
    for number in range(LOGGED + 5):
        roll.bucket.put(f"bad {number}.csv", b"")
    with replica(roll.state / "build/process-data", roll.process_settings) as running:
        assert first_answer(running, "/").status == 405
        for call in ("first", "second"):
            assert running.request("POST", "/", X_Call_Id=call).json()["rejected"] == LOGGED + 5
        lines = [json.loads(line) for line in running.lines()]
    told = [(one["event"], one["call_id"]) for one in lines]
    assert told == [("run", "first"), *[("rejection", "first")] * LOGGED, ("run", "second")]
    assert (lines[0]["rejected"], lines[1]["object"], lines[1]["code"]) == (LOGGED + 5, "bad 0.csv", "bad_name")
