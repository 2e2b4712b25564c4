"""process-data on real servers: what it accepts, rejects, keeps and writes."""

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import time_ns
from typing import Any

import pytest
from process_data.application import Application
from process_data.counters import MAX_LOGGED
from process_data.rejections import RULES
from process_data.runs import Trigger
from process_data.shared.storage.errors import Unavailable

from tests.proxy import Intercept, counting
from tests.replica import first_answer, replica
from tests.runs import application, run
from tests.samples import samples
from tests.stack import Answer, Stack

COLUMNS = ["user_id", "first_name", "last_name", "birthts", "img_path"]


def output(roll: Stack) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(roll.bucket.read("output.csv").decode())))


def users(roll: Stack) -> list[dict[str, str]]:
    rows = roll.sql(f"select {', '.join(COLUMNS)} from users order by user_id")
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    return [dict(zip(COLUMNS, row, strict=True)) for row in texts]


def counts(summary: dict[str, Any]) -> dict[str, int]:
    names = (
        *("listed", "added", "updated", "unchanged", "images_changed", "ignored", "rejected", "unreadable"),
        "remaining",
    )
    return {name: summary[name] for name in names if summary[name]}


@contextmanager
def proxied(
    roll: Stack, intercept: Intercept = lambda _kind, _path: None, **settings: str
) -> Iterator[tuple[Application, Counter[str]]]:
    """An application whose requests to S3 are counted, and may be interfered with."""
    with (
        counting(roll.process_settings["s3_endpoint"], intercept) as (endpoint, asked),
        application(roll, s3_endpoint=endpoint, **settings) as made,
    ):
        yield made, asked


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
    roll.bucket.put_person("2")
    roll.process()
    roll.bucket.remove("1.csv")
    assert counts(roll.process()) == {"listed": 2, "unchanged": 1}
    assert [row["img_path"] for row in output(roll)] == ["src/1.png", ""]
    roll.bucket.remove("1.png")
    assert counts(roll.process()) == {"listed": 1, "unchanged": 1, "images_changed": 1}
    assert [row["img_path"] for row in output(roll)] == ["", ""]


def test_bad_objects_are_reported_and_good_ones_are_stored(roll: Stack) -> None:
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


def test_the_last_valid_row_stays_until_the_file_is_corrected(roll: Stack) -> None:
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


def test_a_rejection_ends_with_its_file_or_with_the_last_valid_version(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    for key in ("1.csv", "2.csv", "name.csv"):
        roll.bucket.put(key, b"nonsense")
    assert roll.process()["rejected"] == 3
    roll.bucket.put_person("1")
    roll.bucket.remove("2.csv")
    roll.bucket.remove("name.csv")
    assert counts(roll.process()) == {"listed": 1, "unchanged": 1}


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


def test_a_run_for_users_is_about_them_alone(roll: Stack) -> None:
    for user_id in ("12", "120", "121", "13"):
        roll.bucket.put_person(user_id)
        roll.bucket.put(f"{user_id}.png", b"photo")
    roll.bucket.put("12.d.csv", b"")
    roll.bucket.put("129.csv", b"")
    one = roll.process("?user_id=12")
    assert (one["status"], one["trigger"], counts(one)) == ("done", "http", {"listed": 2, "added": 1})
    assert [row["user_id"] for row in users(roll)] == ["12"]
    several = roll.process("?user_id=129&user_id=12&user_id=13&user_id=129")
    assert counts(several) == {"listed": 5, "added": 1, "unchanged": 1, "rejected": 1}
    assert [rejection["object"] for rejection in several["rejections"]] == ["129.csv"]
    assert [row["user_id"] for row in users(roll)] == ["12", "13"]
    roll.sql("update users set img_path = 'src/gone.png'")
    assert counts(roll.process("?user_id=13"))["images_changed"] == 1
    assert [row["img_path"] for row in users(roll)] == ["src/gone.png", "src/13.png"]
    assert roll.sql("select distinct scope from runs") == [["users"]]
    assert roll.sql("select count(*) from hints") == [[0]]


def test_a_run_for_an_unknown_user_is_done_and_changes_nothing(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    summary = roll.process("?user_id=2")
    assert (summary["status"], counts(summary), summary["output"]["written"]) == ("done", {}, False)
    assert [row["user_id"] for row in users(roll)] == ["1"]


def test_a_run_for_more_than_a_thousand_users_is_too_large(roll: Stack) -> None:
    everyone = "&".join(f"user_id={number}" for number in range(1001))
    response = roll.request("POST", f"/function/process-data?{everyone}")
    assert (response.status, response.json()["error"]["code"]) == (413, "too_many_users")
    assert roll.process("?" + everyone.rpartition("&")[0])["status"] == "done"


@pytest.mark.parametrize(
    "query",
    [
        "user_id=x",
        "user_id=",
        "fan_out=11",
        "since=now",
        "accept_empty=yes",
        "user_id=1&fan_out=1",
        "prefix=1",
        "other=1",
    ],
)
def test_an_invalid_parameter_is_a_400(roll: Stack, query: str) -> None:
    response = roll.request("POST", f"/function/process-data?{query}")
    assert (response.status, response.json()["error"]["code"]) == (400, "bad_parameter")
    assert query.partition("=")[0] in response.json()["error"]["message"]
    assert roll.sql("select count(*) from runs") == [[0]]


def test_an_emptied_bucket_changes_nothing_until_it_is_confirmed(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.bucket.put("1.png", b"photo")
    roll.bucket.put("2.csv", b"")
    roll.process()
    state = "select u.*, u.xmin::text, r.*, r.xmin::text from users u, rejected r"
    before, written = roll.sql(state), roll.bucket.read("output.csv")
    for key in ("1.csv", "1.png", "2.csv"):
        roll.bucket.remove(key)
    for response in (
        roll.request("POST", "/function/process-data"),
        roll.request("POST", "/function/process-data?user_id=1"),
        roll.event("1.png"),
    ):
        error = response.json()["error"]
        assert (response.status, error["code"]) == (503, "source_empty")
        assert "src" in error["message"]
        assert "?accept_empty=1" in error["message"]
    assert roll.sql(state) == before
    assert roll.bucket.read("output.csv") == written
    assert roll.sql("select distinct status from runs where id > 1") == [["failed"]]
    summary = roll.process("?accept_empty=1")
    assert (summary["status"], counts(summary)) == ("done", {"images_changed": 1})
    assert [(row["user_id"], row["img_path"]) for row in output(roll)] == [("1", "")]
    assert roll.sql("select count(*) from rejected") == [[0]]
    assert roll.process()["status"] == "done"  # nothing was there before either


def test_one_object_is_enough_for_a_bucket_that_is_not_empty(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.bucket.put("1.png", b"photo")
    roll.process()
    roll.bucket.put("folder/notes.txt", b"")
    roll.bucket.put("notes.txt", b"")
    roll.bucket.remove("1.csv")
    roll.bucket.remove("1.png")
    assert counts(roll.process()) == {"listed": 2, "images_changed": 1, "ignored": 2}


def test_folders_are_not_what_makes_a_bucket_one_that_is_not_empty(roll: Stack) -> None:
    """SeaweedFS lists a folder for some minutes after its last object was removed."""
    roll.bucket.put("0/notes.txt", b"")
    assert roll.process()["status"] == "done"
    assert roll.process()["status"] == "done"  # there was no object before
    roll.bucket.put_person("1")
    roll.bucket.put("1.png", b"photo")
    roll.process()
    roll.bucket.remove("1.csv")
    roll.bucket.remove("1.png")
    for query in ("", "?user_id=1"):
        response = roll.request("POST", f"/function/process-data{query}")
        assert (response.status, response.json()["error"]["code"]) == (503, "source_empty")
    assert roll.sql("select img_path from users") == [["src/1.png"]]
    assert roll.process("?accept_empty=1")["images_changed"] == 1
    assert roll.process()["status"] == "done"


def etag_of(roll: Stack, key: str) -> str:
    return str(roll.bucket.client.stat_object(bucket_name="src", object_name=key).etag)


REJECT = """
insert into rejected (object, etag, checked_etag, line, code, message, rules, retry_after)
values (:object, :etag, :etag, 2, :code, 'as it was', :rules, :retry_after)
"""


def test_a_rejected_file_that_is_unchanged_is_not_fetched_again(roll: Stack) -> None:
    roll.bucket.put("1.csv", b"")
    roll.bucket.put("x.csv", b"")
    with proxied(roll) as (made, asked):
        assert run(made)["rejected"] == 2
        assert asked["GET"] == 1
        before = roll.sql("select *, xmin::text from rejected")
        assert run(made)["rejected"] == 2
        assert run(made, Trigger.EVENT, objects=("1.csv", "x.csv"))["rejected"] == 2
        assert asked["GET"] == 1
        assert roll.sql("select *, xmin::text from rejected") == before
        roll.bucket.put("1.csv", b"\n")
        assert run(made)["rejected"] == 2
        assert asked["GET"] == 2


def test_a_birth_in_the_future_is_accepted_once_its_moment_has_come_and_not_fetched_before(roll: Stack) -> None:
    now = time_ns() // 1_000_000
    later = now + 3_600_000
    roll.bucket.put_person("1", birthts=later)
    roll.bucket.put_person("2", birthts=now)  # as if it had been rejected a while ago, an hour too early
    roll.sql(REJECT, object="2.csv", etag=etag_of(roll, "2.csv"), code="in_the_future", rules=RULES, retry_after=later)
    with proxied(roll) as (made, asked):
        assert counts(run(made)) == {"listed": 2, "rejected": 2}
        assert asked["GET"] == 1
        assert roll.sql("select object, code, retry_after from rejected order by object") == [
            ["1.csv", "in_the_future", later],
            ["2.csv", "in_the_future", later],
        ]
        assert counts(run(made)) == {"listed": 2, "rejected": 2}
        assert asked["GET"] == 1
        roll.sql("update rejected set retry_after = :now where object = '2.csv'", now=now)
        assert counts(run(made)) == {"listed": 2, "added": 1, "rejected": 1}
        assert asked["GET"] == 2
    assert [row["user_id"] for row in output(roll)] == ["2"]


def test_a_rejection_by_older_rules_is_checked_again_once(roll: Stack) -> None:
    roll.bucket.put("1.csv", b"")
    roll.bucket.put_person("2")
    for key in ("1.csv", "2.csv"):
        roll.sql(REJECT, object=key, etag=etag_of(roll, key), code="no_row", rules=RULES - 1, retry_after=None)
    with proxied(roll) as (made, asked):
        assert counts(run(made)) == {"listed": 2, "added": 1, "rejected": 1}
        assert roll.sql("select object, code, rules from rejected") == [["1.csv", "empty", RULES]]
        assert asked["GET"] == 2
        assert counts(run(made)) == {"listed": 2, "unchanged": 1, "rejected": 1}
        assert asked["GET"] == 2


def test_64_kib_are_accepted_and_a_byte_more_is_rejected_without_fetching(roll: Stack) -> None:
    person = b"first_name,last_name,birthts\nAda,Lovelace,0\n"
    roll.bucket.put("1.csv", person.ljust(65_536, b"\n"))
    roll.bucket.put("2.csv", person.ljust(65_537, b"\n"))
    with proxied(roll) as (made, asked):
        summary = run(made)
    assert counts(summary) == {"listed": 2, "added": 1, "rejected": 1}
    assert [(one["object"], one["code"]) for one in summary["rejections"]] == [("2.csv", "too_large")]
    assert asked["GET"] == 1


def test_an_object_that_grew_after_it_was_listed_is_rejected(roll: Stack) -> None:
    def grow(kind: str, path: str) -> None:
        if (kind, path) == ("GET", "/src/1.csv"):
            roll.bucket.put("1.csv", b"x" * 70_000)

    roll.bucket.put_person("1")
    with proxied(roll, grow) as (made, _):
        summary = run(made)
    assert (summary["status"], counts(summary)) == ("done", {"listed": 1, "rejected": 1})
    assert [(one["object"], one["code"]) for one in summary["rejections"]] == [("1.csv", "too_large")]
    assert roll.sql("select etag from rejected") == [[etag_of(roll, "1.csv")]]


def test_an_object_that_is_removed_after_it_was_listed_is_left_out(roll: Stack) -> None:
    def remove(kind: str, path: str) -> None:
        if (kind, path) == ("GET", "/src/1.csv"):
            roll.bucket.remove("1.csv")

    roll.bucket.put_person("1")
    roll.bucket.put_person("2")
    with proxied(roll, remove) as (made, _):
        summary = run(made)
    assert (summary["status"], counts(summary)) == ("done", {"listed": 2, "added": 1})


@pytest.mark.parametrize("kind", ["LIST", "GET", "HEAD", "PUT"])
def test_one_503_of_s3_is_retried(roll: Stack, kind: str) -> None:
    failed: list[str] = []

    def fail(asked: str, path: str) -> Answer | None:
        if asked != kind or failed:
            return None
        failed.append(path)
        return Answer(503, {}, b"")

    roll.bucket.put_person("1")
    with proxied(roll, fail) as (made, _):
        summary = run(made)
    assert len(failed) == 1
    assert (summary["status"], counts(summary)) == ("done", {"listed": 1, "added": 1})
    assert [row["user_id"] for row in output(roll)] == ["1"]
    assert roll.sql("select count(*) from runs") == [[1]]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>welcome to this network</html>",
        b"",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>false</IsTruncated>",
    ],
)
def test_a_response_that_is_no_whole_listing_changes_nothing(roll: Stack, body: bytes) -> None:
    def replace(kind: str, _path: str) -> Answer | None:
        return Answer(200, {"Content-Type": "text/html"}, body) if kind == "LIST" else None

    roll.bucket.put_person("1")
    roll.bucket.put("1.png", b"photo")
    roll.bucket.put("2.csv", b"")
    roll.process()
    state = "select u.*, u.xmin::text, r.*, r.xmin::text from users u, rejected r"
    before = roll.sql(state)
    with proxied(roll, replace) as (made, _), pytest.raises(Unavailable) as raised:
        run(made)
    assert raised.value.service == "s3"
    assert roll.sql(state) == before


def test_ten_thousand_people_are_fetched_once(roll: Stack) -> None:
    def put(number: int) -> None:
        roll.bucket.put_person(f"{number:05}", birthts=number)
        if number % 2:
            roll.bucket.put(f"{number:05}.png", b"photo")

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(put, range(10_000)))
    with application(roll, run_deadline="600") as made:
        assert counts(run(made)) == {"listed": 15_000, "added": 10_000}
    assert output(roll) == users(roll)
    assert len(output(roll)) == len({row["user_id"] for row in output(roll)}) == 10_000
    with proxied(roll, run_deadline="600") as (made, asked):
        assert counts(run(made)) == {"listed": 15_000, "unchanged": 10_000}
        assert asked.keys() == {"LIST", "HEAD"}
        assert 15 <= asked["LIST"] <= 17  # two segments, which need not end with a page
        assert asked["HEAD"] == 4  # the outputs, and the mirror of tombstones before anything else
        asked.clear()
        roll.bucket.put_person("00001", birthts=-1)
        roll.sql("update outputs set written_at = null")  # it may be written again at once
        assert counts(run(made, Trigger.EVENT, objects=("00001.csv",))) == {"listed": 2, "updated": 1}
        assert asked == {"LIST": 1, "GET": 1, "HEAD": 4, "UPLOADS": 1, "PUT": 1}
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


def test_what_a_file_has_is_in_no_log_line_and_no_summary(roll: Stack) -> None:
    roll.bucket.put("1.csv", b"first_name,last_name,birthts\nAda,Secretary,Secretly\n")
    with replica(roll.state / "build/process-data", roll.process_settings) as running:
        first_answer(running, "/")
        response = running.request("POST", "/").json()
        logged = [json.loads(line) for line in running.lines()]
    assert "Secretly" in response["rejections"][0]["message"]
    [rejection] = [line for line in logged if line["event"] == "rejection"]
    assert (rejection["object"], rejection["line"], rejection["code"]) == ("1.csv", 2, "not_an_integer")
    assert "Secret" not in json.dumps(logged)
    [[summary]] = roll.sql("select summary from runs where id = :id", id=response["run_id"])
    assert summary["rejected"] == 1
    assert "rejections" not in summary
    assert "Secret" not in json.dumps(summary)


def test_a_run_and_its_new_rejections_are_logged_with_the_call_id(roll: Stack) -> None:
    for number in range(MAX_LOGGED + 5):
        roll.bucket.put(f"bad {number}.csv", b"")
    with replica(roll.state / "build/process-data", roll.process_settings) as running:
        assert first_answer(running, "/").status == 405
        for call in ("first", "second"):
            assert running.request("POST", "/", X_Call_Id=call).json()["rejected"] == MAX_LOGGED + 5
        lines = [json.loads(line) for line in running.lines()]
    logged = [(line["event"], line["call_id"]) for line in lines]
    assert logged == [*[("rejection", "first")] * MAX_LOGGED, ("run", "first"), ("run", "second")]
    assert (lines[0]["object"], lines[0]["code"], lines[-1]["rejected"]) == ("bad 0.csv", "bad_name", MAX_LOGGED + 5)
    assert "rejections" not in lines[-1]
