"""Bucket events: hints in any order, over just the users they name."""

import json

import pytest

from tests.stack import Stack


def test_an_event_looks_at_its_user_alone(roll: Stack) -> None:
    for user_id in ("1", "10", "100", "2"):
        roll.bucket.put_person(user_id)
        roll.bucket.put(f"{user_id}.png", b"photo")
    summary = roll.event("10.csv").json()
    assert (summary["trigger"], summary["listed"], summary["added"]) == ("event", 2, 1)
    assert roll.sql("select user_id, img_path from users") == [["10", "src/10.png"]]
    assert summary["output"] == {"object": "res/output.csv", "rows": 1, "written": True}


def test_a_photo_event_may_come_before_its_csv(roll: Stack) -> None:
    roll.bucket.put("1.png", b"photo")
    assert roll.event("1.png").json()["added"] == 0
    roll.bucket.put_person("1")
    assert roll.event("1.csv").json()["added"] == 1
    roll.bucket.remove("1.png")
    assert roll.event("1.png").json()["images_changed"] == 1
    assert roll.sql("select img_path from users") == [[None]]


def test_an_event_for_a_bad_object_refuses_and_forgives_it(roll: Stack) -> None:
    roll.bucket.put("1.csv", b"")
    roll.bucket.put("a b+c.csv", b"")
    roll.bucket.put("other.csv", b"")
    answer = roll.event("1.csv", "a b+c.csv").json()
    assert [(one["object"], one["code"]) for one in answer["rejections"]] == [
        ("1.csv", "empty"),
        ("a b+c.csv", "bad_name"),
    ]
    roll.bucket.remove("a b+c.csv")
    roll.bucket.put_person("1")
    assert roll.event("1.csv", "a b+c.csv").json()["rejected"] == 0
    assert roll.sql("select count(*) from rejected") == [[0]]


def test_an_event_for_a_misnamed_csv_leaves_the_photo_of_whom_it_seems_to_name(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.bucket.put("1.png", b"photo")
    roll.process()
    roll.bucket.put("1.old.csv", b"")
    assert roll.event("1.old.csv").json()["images_changed"] == 0
    assert roll.sql("select img_path from users") == [["src/1.png"]]


@pytest.mark.parametrize(
    ("bucket", "key"), [("res", "output.csv"), ("elsewhere", "1.csv"), ("src", "notes.txt"), ("src", "folder/1.csv")]
)
def test_what_is_none_of_ours_is_answered_with_200(roll: Stack, bucket: str, key: str) -> None:
    roll.bucket.put_person("1")
    answer = roll.event(key, bucket=bucket)
    assert (answer.status, answer.json()["listed"]) == (200, 0)
    assert roll.sql("select count(*) from users") == [[0]]


@pytest.mark.parametrize("key", ["a\0.csv", "\ud800.csv"])
def test_a_key_that_is_no_text_is_left_to_the_schedule(roll: Stack, key: str) -> None:
    records = [{"s3": {"bucket": {"name": "src"}, "object": {"key": key}}}]
    answer = roll.request("POST", "/function/process-data", json.dumps({"Records": records}).encode())
    assert (answer.status, answer.json()["listed"]) == (200, 0)


def test_s3_may_test_the_endpoint(roll: Stack) -> None:
    body = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "src"}).encode()
    assert roll.request("POST", "/function/process-data", body).status == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"nonsense", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "no list of Records"),
        (b'{"Records": {}}', "no list of Records"),
        (b'{"Records": [1]}', "a record lacks"),
        (b'{"Records": [{"s3": {"bucket": {"name": "src"}, "object": {"key": 5}}}]}', "a record lacks"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_any_other_body_is_refused(roll: Stack, body: bytes, message: str) -> None:
    answer = roll.request("POST", "/function/process-data", body)
    assert (answer.status, answer.json()["error"]["code"]) == (400, "bad_body")
    assert message in answer.json()["error"]["message"]


def test_a_body_that_is_too_large_is_refused(roll: Stack) -> None:
    answer = roll.request("POST", "/function/process-data", b"x" * (1024 * 1024 + 1))
    assert (answer.status, answer.json()["error"]["code"]) == (413, "too_large")


def test_white_space_alone_is_no_body(roll: Stack) -> None:
    assert roll.request("POST", "/function/process-data", b" \r\n\t ").json()["trigger"] == "http"


def test_fan_out_runs_every_shard(roll: Stack) -> None:
    for user_id in ("0", "19", "55", "9"):
        roll.bucket.put_person(user_id)
    answer = roll.request("POST", "/function/process-data?fan_out=1")
    assert answer.status == 202
    runs = answer.json()["runs"]
    assert [one["prefix"] for one in runs] == list("0123456789")
    assert len({one["call_id"] for one in runs}) == 10
    roll.wait_until(lambda: roll.sql("select count(*) from runs where status = 'done'") == [[10]])
    assert roll.sql("select user_id from users order by 1") == [["0"], ["19"], ["55"], ["9"]]
    assert roll.bucket.read("output.csv").count(b"\n") == 5


@pytest.mark.parametrize("query", ["fan_out=2", "fan_out=1&prefix=1", "prefix=x", "prefix=1&prefix=2", "other=1"])
def test_a_bad_parameter_is_named(roll: Stack, query: str) -> None:
    answer = roll.request("POST", f"/function/process-data?{query}")
    assert (answer.status, answer.json()["error"]["code"]) == (400, "bad_parameter")
