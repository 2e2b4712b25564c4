"""The paths /stats, /rejected and /runs, and what changes their ETags and that of /."""

import time
from typing import Any

import pytest

from tests.queries import add, get, mark_changed
from tests.stack import Stack


def test_stats_of_an_empty_table_are_zero_and_have_no_ages(rollcall: Stack) -> None:
    counts = {"people": 0, "with_photo": 0, "without_photo": 0}
    assert get(rollcall, "/stats").json() == counts | {"ages": [], "rejected": 0, "last_run": None}


def test_stats_have_photos_ages_rejections_and_the_last_run(rollcall: Stack) -> None:
    now = time.time() * 1000
    for number, years in enumerate((0, 9.5, 10.5, 34, 35, 36, 101)):
        rollcall.bucket.put_person(str(number), birthts=int(now - years * 365.2425 * 86_400_000))
    rollcall.bucket.put("1.png", b"photo")
    rollcall.bucket.put("bad.csv", b"")
    run = rollcall.process()
    stats = get(rollcall, "/stats").json()
    assert (stats["people"], stats["with_photo"], stats["without_photo"], stats["rejected"]) == (7, 1, 6, 1)
    expected = {0: 2, 10: 1, 30: 3, 100: 1}
    assert {bar["from"]: bar["people"] for bar in stats["ages"]} == {
        **dict.fromkeys(range(0, 101, 10), 0),
        **expected,
    }
    assert all(bar["under"] == bar["from"] + 10 for bar in stats["ages"])
    assert (stats["last_run"]["id"], stats["last_run"]["status"]) == (run["run_id"], "done")
    assert stats["last_run"]["summary"]["added"] == 7
    assert get(rollcall, "/stats?min_age=30&max_age=35.5").json()["people"] == 2
    assert get(rollcall, "/stats?is_image_exists=1").json()["ages"] == [{"from": 0, "under": 10, "people": 1}]


@pytest.mark.parametrize("path", ["/stats", "/rejected", "/runs"])
def test_a_run_that_rejects_a_file_changes_the_etag(rollcall: Stack, path: str) -> None:
    rollcall.bucket.put("bad.csv", b"")
    rollcall.process()
    etag = get(rollcall, path).headers["ETag"]
    assert get(rollcall, path, If_None_Match=etag).status == 304
    rollcall.bucket.put("worse.csv", b"")
    rollcall.process()
    assert get(rollcall, path, If_None_Match=etag).status == 200


@pytest.mark.parametrize(
    ("path", "accept"), [("/runs", "*/*"), ("/runs", "text/html"), ("/stats", "*/*"), ("/", "text/html")]
)
def test_the_start_and_the_end_of_a_run_change_the_etag(rollcall: Stack, path: str, accept: str) -> None:
    """Even if the run changes nothing else."""
    rollcall.process()
    etags = [get(rollcall, path, Accept=accept).headers["ETag"]]
    for change in (
        "insert into runs (trigger, scope, status) values ('cron', 'bucket', 'running')",
        "update runs set status = 'done', finished_at = now() where finished_at is null",
    ):
        rollcall.sql(change)
        response = get(rollcall, path, Accept=accept, If_None_Match=", ".join(etags))
        assert response.status == 200
        etags.append(response.headers["ETag"])


@pytest.mark.parametrize(
    ("path", "accept", "user", "rejected"),
    [("/stats", "*/*", b'"people": 1,', b'"rejected": 1,'), ("/", "text/html", b"Grace", b"bad.csv")],
)
def test_statistics_and_the_page_show_changes_before_the_run_ends(
    rollcall: Stack, path: str, accept: str, user: bytes, rejected: bytes
) -> None:
    """The test changes the tables as a run in progress does, which changes its row in `runs` only at its end."""
    first = get(rollcall, path, Accept=accept)
    add(rollcall, "1", "Grace")
    mark_changed(rollcall)
    second = get(rollcall, path, Accept=accept, If_None_Match=first.headers["ETag"])
    rollcall.sql("insert into rejected (object, etag, code, message) values ('bad.csv', 'x', 'bad_name', 'message')")
    rollcall.sql("update outputs set changed = changed + 1 where object = 'rejected.csv'")
    third = get(rollcall, path, Accept=accept, If_None_Match=second.headers["ETag"])
    contents = [(user in response.body, rejected in response.body) for response in (first, second, third)]
    assert contents == [(False, False), (True, False), (True, True)]


def all_items(rollcall: Stack, path: str, limit: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    url: str | None = f"?limit={limit}"
    while url is not None:
        page = get(rollcall, path + url).json()
        assert len(page["result"]) <= limit
        items += page["result"]
        url = page["next"]
    return items


def test_rejected_lists_rejected_files_page_by_page(rollcall: Stack) -> None:
    keys = ["a b.csv", "ü'\".csv", "x.csv", "%.csv"]
    for key in keys:
        rollcall.bucket.put(key, b"")
    rollcall.process()
    files = all_items(rollcall, "/rejected", 2)
    assert [file["object"] for file in files] == sorted(keys, key=str.encode)
    assert set(files[0]) == {"object", "line", "code", "message", "first_seen", "last_seen"}
    assert {file["code"] for file in files} == {"bad_name"}
    assert get(rollcall, "/rejected").json() == {"result": files, "next": None}


def test_runs_lists_runs_newest_first(rollcall: Stack) -> None:
    run_ids = [rollcall.process("?user_id=4" if n % 2 else "")["run_id"] for n in range(7)]
    runs = all_items(rollcall, "/runs", 3)
    assert [run["id"] for run in runs] == run_ids[::-1]
    assert [run["scope"] for run in runs] == ["bucket", "users", "bucket", "users", "bucket", "users", "bucket"]
    assert all(run["finished_at"] >= run["started_at"] for run in runs)


def test_a_change_is_visible_at_once(rollcall: Stack) -> None:
    etag = get(rollcall).headers["ETag"]
    add(rollcall, "1")
    mark_changed(rollcall)
    assert len(get(rollcall, "", If_None_Match=etag).json()["result"]) == 1
