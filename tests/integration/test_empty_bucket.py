"""An emptied bucket changes nothing until a request confirms that it is meant to be empty."""

from concurrent.futures import ThreadPoolExecutor

from tests.rows import output, snapshot
from tests.runs import counts
from tests.stack import Stack


def test_an_emptied_bucket_changes_nothing_until_confirmed(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("1.png", b"photo")
    rollcall.bucket.put("2.csv", b"")
    rollcall.process()
    tables, output_csv = snapshot(rollcall), rollcall.bucket.read("output.csv")
    for key in ("1.csv", "1.png", "2.csv"):
        rollcall.bucket.remove(key)
    for response in (
        rollcall.request("POST", "/function/process-data"),
        rollcall.request("POST", "/function/process-data?user_id=1"),
        rollcall.event("1.png"),
    ):
        error = response.json()["error"]
        assert (response.status, error["code"]) == (503, "source_empty")
        assert "src" in error["message"]
        assert "?accept_empty=1" in error["message"]
    assert snapshot(rollcall) == tables
    assert rollcall.bucket.read("output.csv") == output_csv
    assert rollcall.sql("select distinct status from runs where id > 1") == [["failed"]]
    assert rollcall.sql("select from pg_locks where locktype = 'advisory'") == []  # other replicas can scan
    summary = rollcall.process("?accept_empty=1")
    assert (summary["status"], counts(summary)) == ("done", {"images_changed": 1})
    assert [(row["user_id"], row["img_path"]) for row in output(rollcall)] == [("1", "")]
    assert rollcall.sql("select count(*) from rejected") == [[0]]
    assert rollcall.process()["status"] == "done"  # no confirmation is needed: the bucket was already empty


def test_one_top_level_object_makes_a_bucket_non_empty(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("1.png", b"photo")
    rollcall.process()
    rollcall.bucket.put("folder/notes.txt", b"")
    rollcall.bucket.put("notes.txt", b"")
    rollcall.bucket.remove("1.csv")
    rollcall.bucket.remove("1.png")
    assert counts(rollcall.process()) == {"listed": 2, "images_changed": 1, "ignored": 2}


def test_a_bucket_with_only_folders_counts_as_empty(rollcall: Stack) -> None:
    """SeaweedFS lists a folder for some minutes after its last object was removed."""
    rollcall.bucket.put("0/notes.txt", b"")
    assert rollcall.process()["status"] == "done"
    assert rollcall.process()["status"] == "done"  # there was no object before either
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("1.png", b"photo")
    rollcall.process()
    rollcall.bucket.remove("1.csv")
    rollcall.bucket.remove("1.png")
    for query in ("", "?user_id=1"):
        response = rollcall.request("POST", f"/function/process-data{query}")
        assert (response.status, response.json()["error"]["code"]) == (503, "source_empty")
    assert rollcall.sql("select img_path from users") == [["src/1.png"]]
    assert rollcall.process("?accept_empty=1")["images_changed"] == 1
    assert rollcall.process()["status"] == "done"


def test_an_object_after_a_page_of_folders_makes_a_bucket_non_empty(rollcall: Stack) -> None:
    rollcall.bucket.put("notes.txt", b"")
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("1.png", b"photo")
    rollcall.process()
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(rollcall.bucket.put, (f"{number}/notes.txt" for number in range(1001)), [b""] * 1001))
    rollcall.bucket.remove("1.csv")
    rollcall.bucket.remove("1.png")
    assert rollcall.process("?user_id=1")["images_changed"] == 1
