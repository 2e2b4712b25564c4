"""An emptied bucket changes nothing until it is confirmed."""

from tests.rows import output, snapshot
from tests.runs import counts
from tests.stack import Stack


def test_an_emptied_bucket_changes_nothing_until_confirmed(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.bucket.put("1.png", b"photo")
    roll.bucket.put("2.csv", b"")
    roll.process()
    before, written = snapshot(roll), roll.bucket.read("output.csv")
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
    assert snapshot(roll) == before
    assert roll.bucket.read("output.csv") == written
    assert roll.sql("select distinct status from runs where id > 1") == [["failed"]]
    summary = roll.process("?accept_empty=1")
    assert (summary["status"], counts(summary)) == ("done", {"images_changed": 1})
    assert [(row["user_id"], row["img_path"]) for row in output(roll)] == [("1", "")]
    assert roll.sql("select count(*) from rejected") == [[0]]
    assert roll.process()["status"] == "done"  # the bucket was already empty


def test_one_object_makes_a_bucket_non_empty(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.bucket.put("1.png", b"photo")
    roll.process()
    roll.bucket.put("folder/notes.txt", b"")
    roll.bucket.put("notes.txt", b"")
    roll.bucket.remove("1.csv")
    roll.bucket.remove("1.png")
    assert counts(roll.process()) == {"listed": 2, "images_changed": 1, "ignored": 2}


def test_a_bucket_with_only_folders_counts_as_empty(roll: Stack) -> None:
    """SeaweedFS lists a folder for some minutes after its last object was removed."""
    roll.bucket.put("0/notes.txt", b"")
    assert roll.process()["status"] == "done"
    assert roll.process()["status"] == "done"  # there was no object before either
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
