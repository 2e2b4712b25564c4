"""Bucket events may arrive in any order, and each processes only the users whose objects it names.

A fan-out queues runs that share the work.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.stack import Stack


@pytest.fixture
def rollcall(rollcall: Stack) -> Stack:
    """The stack with an unrelated object, which events must neither list nor count."""
    rollcall.bucket.put("notes.txt", b"")
    return rollcall


def event(rollcall: Stack, *keys: str) -> dict[str, Any]:
    """Send an event. Return the summary of its run, which must leave no hints."""
    response = rollcall.event(*keys)
    assert response.status == 200, response.body
    summary: dict[str, Any] = response.json()
    assert (summary["status"], summary["trigger"], summary["remaining"]) == ("done", "event", 0)
    assert rollcall.sql("select count(*) from hints") == [[0]]
    return summary


def test_an_event_processes_only_its_user(rollcall: Stack) -> None:
    for user_id in ("1", "10", "100", "2"):
        rollcall.bucket.put_person(user_id)
        rollcall.bucket.put(f"{user_id}.png", b"photo")
    summary = event(rollcall, "10.csv")
    assert (summary["listed"], summary["added"]) == (2, 1)
    assert rollcall.sql("select user_id, img_path from users") == [["10", "src/10.png"]]
    assert summary["output"] == {"object": "res/output.csv", "rows": 1, "written": True, "pending": False}


def test_a_photo_event_may_arrive_before_the_csv_exists(rollcall: Stack) -> None:
    rollcall.bucket.put("1.png", b"photo")
    assert event(rollcall, "1.png")["added"] == 0
    rollcall.bucket.put_person("1")
    assert event(rollcall, "1.csv")["added"] == 1
    rollcall.bucket.remove("1.png")
    assert event(rollcall, "1.png")["images_changed"] == 1
    assert rollcall.sql("select img_path from users") == [[None]]


def test_events_may_be_duplicated_and_late(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1", last="Second")
    rollcall.bucket.put("1.png", b"photo")
    assert event(rollcall, *["1.csv", "1.png"] * 500)["added"] == 1
    assert event(rollcall, "1.csv")["unchanged"] == 1
    rollcall.bucket.remove("1.csv")
    assert event(rollcall, "1.csv")["listed"] == 1
    assert rollcall.sql("select last_name, img_path from users") == [["Second", "src/1.png"]]


def test_an_event_rejects_an_invalid_file_until_it_is_corrected_or_removed(rollcall: Stack) -> None:
    rollcall.bucket.put("1.csv", b"")
    rollcall.bucket.put("a b+c.csv", b"")
    rollcall.bucket.put("other.csv", b"")
    summary = event(rollcall, "1.csv", "a b+c.csv")
    assert (summary["listed"], summary["rejected"]) == (2, 2)
    assert [(rejection["object"], rejection["code"]) for rejection in summary["rejections"]] == [
        ("1.csv", "empty"),
        ("a b+c.csv", "bad_name"),
    ]
    rollcall.bucket.remove("a b+c.csv")
    rollcall.bucket.put_person("1")
    assert event(rollcall, "1.csv", "a b+c.csv")["rejected"] == 0
    assert rollcall.sql("select count(*) from rejected") == [[0]]


@pytest.mark.parametrize("key", ["1.old.csv", "1.CSV", "1 .csv", "1234567890123456789.csv"])
def test_an_event_for_a_misnamed_csv_does_not_change_the_user(rollcall: Stack, key: str) -> None:
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("1.png", b"photo")
    rollcall.process()
    rollcall.bucket.put_person("1", last="Changed")
    rollcall.bucket.put(key, b"")
    summary = event(rollcall, key)
    assert (summary["listed"], summary["images_changed"], summary["updated"], summary["rejected"]) == (1, 0, 0, 1)
    assert rollcall.sql("select object, code from rejected") == [[key, "bad_name"]]
    assert rollcall.sql("select last_name, img_path from users") == [["Lovelace", "src/1.png"]]


def test_an_event_finds_its_user_among_many_keys_with_the_same_prefix(rollcall: Stack) -> None:
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda number: rollcall.bucket.put(f"1.d{number:04}", b""), range(1001)))
    rollcall.bucket.put_person("1")
    for name in ("1.jpeg", "1.png"):  # .png is preferred
        rollcall.bucket.put(name, b"photo")
    summary = event(rollcall, "1.csv")
    assert (summary["listed"], summary["added"]) == (3, 1)
    assert rollcall.sql("select img_path from users") == [["src/1.png"]]


@pytest.mark.parametrize(
    ("bucket", "key"), [("res", "output.csv"), ("elsewhere", "1.csv"), ("src", "notes.txt"), ("src", "folder/1.csv")]
)
def test_an_unrelated_event_is_accepted_and_changes_nothing(rollcall: Stack, bucket: str, key: str) -> None:
    rollcall.bucket.put_person("1")
    response = rollcall.event(key, bucket=bucket)
    assert (response.status, response.json()["status"], response.json()["listed"]) == (200, "done", 0)
    assert rollcall.sql("select count(*) from users") == [[0]]
    assert rollcall.sql("select count(*) from hints") == [[0]]


@pytest.mark.parametrize("key", ["a\0.csv", "\ud800.csv", "%FF.csv", "%00.csv"])
def test_an_unrepresentable_key_is_ignored(rollcall: Stack, key: str) -> None:
    rollcall.bucket.put_person("1")
    records = [{"s3": {"bucket": {"name": "src"}, "object": {"key": name}}} for name in (key, "1.csv")]
    response = rollcall.request("POST", "/function/process-data", json.dumps({"Records": records}).encode())
    assert (response.status, response.json()["listed"], response.json()["added"]) == (200, 1, 1)


def test_an_event_for_more_than_a_thousand_users_is_an_error(rollcall: Stack) -> None:
    rollcall.bucket.put_person("7")
    keys = [f"{number}.csv" for number in range(1001)]
    response = rollcall.event(*keys)
    assert (response.status, response.json()["error"]["code"]) == (413, "too_many_users")
    assert rollcall.sql("select count(*) from hints") == [[0]]
    assert event(rollcall, *keys[:-1])["added"] == 1


def test_the_test_event_of_s3_is_accepted(rollcall: Stack) -> None:
    body = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "src"}).encode()
    assert rollcall.request("POST", "/function/process-data", body).status == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"nonsense", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "no list of Records"),
        (b'{"Records": {}}', "no list of Records"),
        (b'{"Records": [1]}', "a record lacks"),
        (b'{"Records": [{"s3": {"bucket": {"name": "src"}}}]}', "a record lacks"),
        (b'{"Records": [{"s3": {"bucket": {"name": "src"}, "object": {"key": 5}}}]}', "a record lacks"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_body_that_is_not_an_event_is_a_400(rollcall: Stack, body: bytes, message: str) -> None:
    response = rollcall.request("POST", "/function/process-data", body)
    assert (response.status, response.json()["error"]["code"]) == (400, "bad_body")
    assert message in response.json()["error"]["message"]


def test_a_body_that_is_too_large_is_a_413(rollcall: Stack) -> None:
    response = rollcall.request("POST", "/function/process-data", b"x" * (1024 * 1024 + 1))
    assert (response.status, response.json()["error"]["code"]) == (413, "too_large")


def test_a_whitespace_body_counts_as_empty(rollcall: Stack) -> None:
    assert rollcall.request("POST", "/function/process-data", b" \r\n\t ").json()["trigger"] == "http"


def test_a_fan_out_queues_runs_that_share_the_work(rollcall: Stack) -> None:
    for user_id in ("0", "19", "55", "9"):
        rollcall.bucket.put_person(user_id)
    response = rollcall.request("POST", "/function/process-data?fan_out=3")
    assert (response.status, response.json()["status"]) == (202, "queued")
    call_ids = {run["call_id"] for run in response.json()["runs"]}
    assert len(call_ids) == 3
    rollcall.wait_until(lambda: rollcall.sql("select count(*) from runs where status = 'done'") == [[3]])
    runs = rollcall.sql("select call_id, trigger, summary -> 'added', summary -> 'segments' -> 'scanned' from runs")
    assert {call_id for call_id, *_ in runs} == call_ids
    assert {trigger for _, trigger, *_ in runs} == {"continuation"}
    assert sum(added for *_, added, _ in runs) == 4
    assert sum(scanned for *_, scanned in runs) == 1  # the runs together scan each segment once
    assert rollcall.sql("select user_id from users order by 1") == [["0"], ["19"], ["55"], ["9"]]
    assert rollcall.bucket.read("output.csv").count(b"\n") == 5
