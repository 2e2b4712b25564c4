"""process-data's parameter user_id, and invalid parameters."""

import pytest

from tests.rows import people
from tests.runs import counts
from tests.stack import Stack


def test_a_run_for_users_processes_only_them(rollcall: Stack) -> None:
    for user_id in ("12", "120", "121", "13"):
        rollcall.bucket.put_person(user_id)
        rollcall.bucket.put(f"{user_id}.png", b"photo")
    rollcall.bucket.put("12.d.csv", b"")
    rollcall.bucket.put("129.csv", b"")
    single = rollcall.process("?user_id=12")
    assert (single["status"], single["trigger"], counts(single)) == ("done", "http", {"listed": 2, "added": 1})
    assert [row["user_id"] for row in people(rollcall)] == ["12"]
    several = rollcall.process("?user_id=129&user_id=12&user_id=13&user_id=129")
    assert counts(several) == {"listed": 5, "added": 1, "unchanged": 1, "rejected": 1}
    assert [rejection["object"] for rejection in several["rejections"]] == ["129.csv"]
    assert [row["user_id"] for row in people(rollcall)] == ["12", "13"]
    rollcall.sql("update users set img_path = 'src/gone.png'")
    other = rollcall.process("?user_id=13")
    assert (counts(other), other["rejections"]) == ({"listed": 2, "unchanged": 1, "images_changed": 1}, [])
    assert [row["img_path"] for row in people(rollcall)] == ["src/gone.png", "src/13.png"]
    assert rollcall.sql("select distinct scope from runs") == [["users"]]
    assert rollcall.sql("select count(*) from hints") == [[0]]


def test_a_run_for_an_unknown_user_changes_nothing(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()
    summary = rollcall.process("?user_id=2")
    assert (summary["status"], counts(summary), summary["output"]["written"]) == ("done", {}, False)
    assert [row["user_id"] for row in people(rollcall)] == ["1"]


def test_a_request_for_more_than_a_thousand_users_is_a_413(rollcall: Stack) -> None:
    user_ids = "&".join(f"user_id={number}" for number in range(1001))
    response = rollcall.request("POST", f"/function/process-data?{user_ids}")
    assert (response.status, response.json()["error"]["code"]) == (413, "too_many_users")
    assert rollcall.process("?" + user_ids.rpartition("&")[0])["status"] == "done"


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
def test_an_invalid_parameter_is_a_400(rollcall: Stack, query: str) -> None:
    response = rollcall.request("POST", f"/function/process-data?{query}")
    assert (response.status, response.json()["error"]["code"]) == (400, "bad_parameter")
    assert query.partition("=")[0] in response.json()["error"]["message"]
    assert rollcall.sql("select count(*) from runs") == [[0]]
