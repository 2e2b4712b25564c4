"""Invalid files are rejected, block no others, and are checked again when the result may change."""

from time import time_ns

from process_data.rejections import RULES
from process_data.runs import Trigger

from tests.rows import output, people
from tests.runs import counts, proxied, run
from tests.samples import samples
from tests.stack import Stack


def test_invalid_files_are_reported_and_valid_ones_are_stored(rollcall: Stack) -> None:
    bad, good = samples("bad"), samples("good")
    expected = {}
    for number, sample in enumerate(bad):
        key = sample.key or f"{number}.csv"
        expected[key] = sample.expected
        rollcall.bucket.put(key, sample.body)
    for number, sample in enumerate(good, start=1000):
        rollcall.bucket.put(f"{number}.csv", sample.body)
    summary = rollcall.process()
    assert counts(summary) == {"listed": len(bad) + len(good), "added": len(good), "rejected": len(bad)}
    assert {rejection["object"]: (rejection["line"], rejection["code"]) for rejection in summary["rejections"]} == {
        key: (rejection["line"], rejection["code"]) for key, rejection in expected.items()
    }
    for rejection in summary["rejections"]:
        assert expected[rejection["object"]]["message"] in rejection["message"]
    stored = rollcall.sql("select object, line, code, message from rejected order by object")
    columns = ("object", "line", "code", "message")
    assert stored == [[rejection[name] for name in columns] for rejection in summary["rejections"]]
    assert [(row["first_name"], row["last_name"], int(row["birthts"])) for row in output(rollcall)] == [
        (sample.expected["first_name"], sample.expected["last_name"], sample.expected["birthts"]) for sample in good
    ]
    assert output(rollcall) == people(rollcall)
    again = rollcall.process()
    assert again["seconds"]["fetch"] == 0
    assert again["rejections"] == summary["rejections"]


def test_the_last_valid_row_stays_until_the_file_is_corrected(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1", last="Byron")
    rollcall.process()
    rollcall.bucket.put("1.csv", b"first_name,last_name,birthts\nAda,Lovelace,soon\n")
    summary = rollcall.process()
    assert counts(summary) == {"listed": 1, "rejected": 1}
    assert [row["last_name"] for row in output(rollcall)] == ["Byron"]
    rollcall.bucket.put("1.csv", b"first_name,last_name,birthts\nAda,Lovelace\n")
    [rejection] = rollcall.process()["rejections"]
    assert rejection["code"] == "wrong_field_count"
    rollcall.bucket.put_person("1", last="Lovelace")
    assert counts(rollcall.process()) == {"listed": 1, "updated": 1}
    assert [row["last_name"] for row in output(rollcall)] == ["Lovelace"]


def test_a_rejection_ends_when_its_file_is_removed_or_corrected(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()
    for key in ("1.csv", "2.csv", "name.csv"):
        rollcall.bucket.put(key, b"nonsense")
    assert rollcall.process()["rejected"] == 3
    rollcall.bucket.put_person("1")
    rollcall.bucket.remove("2.csv")
    rollcall.bucket.remove("name.csv")
    assert counts(rollcall.process()) == {"listed": 1, "unchanged": 1}


def etag_of(rollcall: Stack, key: str) -> str:
    return str(rollcall.bucket.client.stat_object(bucket_name="src", object_name=key).etag)


REJECT = """
insert into rejected (object, etag, checked_etag, line, code, message, rules, retry_after)
values (:object, :etag, :etag, 2, :code, 'earlier message', :rules, :retry_after)
"""


def test_an_unchanged_rejected_file_is_not_fetched_again(rollcall: Stack) -> None:
    rollcall.bucket.put("1.csv", b"")
    rollcall.bucket.put("x.csv", b"")
    with proxied(rollcall) as (app, requests):
        assert run(app)["rejected"] == 2
        assert requests["GET"] == 1
        before = rollcall.sql("select *, xmin::text from rejected")
        assert run(app)["rejected"] == 2
        assert run(app, Trigger.EVENT, keys=("1.csv", "x.csv"))["rejected"] == 2
        assert requests["GET"] == 1
        assert rollcall.sql("select *, xmin::text from rejected") == before
        rollcall.bucket.put("1.csv", b"\n")
        for _ in range(2):  # the second run does not fetch it again
            assert run(app)["rejected"] == 2
            assert requests["GET"] == 2
        etag = etag_of(rollcall, "1.csv")
        assert rollcall.sql("select etag, checked_etag from rejected where object = '1.csv'") == [[etag, etag]]


def test_a_file_with_a_birth_in_the_future_is_fetched_again_only_after_the_birth(rollcall: Stack) -> None:
    now = time_ns() // 1_000_000
    later = now + 3_600_000
    rollcall.bucket.put_person("1", birthts=later)
    rollcall.bucket.put_person("2", birthts=now)  # valid now, but recorded below with a later retry_after
    rollcall.sql(
        REJECT, object="2.csv", etag=etag_of(rollcall, "2.csv"), code="in_the_future", rules=RULES, retry_after=later
    )
    with proxied(rollcall) as (app, requests):
        assert counts(run(app)) == {"listed": 2, "rejected": 2}
        assert requests["GET"] == 1
        assert rollcall.sql("select object, code, retry_after from rejected order by object") == [
            ["1.csv", "in_the_future", later],
            ["2.csv", "in_the_future", later],
        ]
        assert counts(run(app)) == {"listed": 2, "rejected": 2}
        assert requests["GET"] == 1
        rollcall.sql("update rejected set retry_after = :now where object = '2.csv'", now=now)
        assert counts(run(app)) == {"listed": 2, "added": 1, "rejected": 1}
        assert requests["GET"] == 2
    assert [row["user_id"] for row in output(rollcall)] == ["2"]


def test_a_file_rejected_by_older_rules_is_checked_again_once(rollcall: Stack) -> None:
    rollcall.bucket.put("1.csv", b"")
    rollcall.bucket.put_person("2")
    for key in ("1.csv", "2.csv"):
        rollcall.sql(REJECT, object=key, etag=etag_of(rollcall, key), code="no_row", rules=RULES - 1, retry_after=1)
    with proxied(rollcall) as (app, requests):
        assert counts(run(app)) == {"listed": 2, "added": 1, "rejected": 1}
        assert rollcall.sql(
            "select object, line, code, message like 'the file is empty%', retry_after, rules, last_seen > first_seen "
            "from rejected"
        ) == [["1.csv", 1, "empty", True, None, RULES, True]]
        assert requests["GET"] == 2
        assert counts(run(app)) == {"listed": 2, "unchanged": 1, "rejected": 1}
        assert requests["GET"] == 2


def test_a_csv_over_64_kib_is_rejected_without_fetching(rollcall: Stack) -> None:
    person = b"first_name,last_name,birthts\nAda,Lovelace,0\n"
    rollcall.bucket.put("1.csv", person.ljust(65_536, b"\n"))
    rollcall.bucket.put("2.csv", person.ljust(65_537, b"\n"))
    with proxied(rollcall) as (app, requests):
        summary = run(app)
    assert counts(summary) == {"listed": 2, "added": 1, "rejected": 1}
    assert [(rejection["object"], rejection["code"]) for rejection in summary["rejections"]] == [("2.csv", "too_large")]
    assert requests["GET"] == 1


def test_an_object_that_grew_after_the_listing_is_rejected(rollcall: Stack) -> None:
    def grow(kind: str, path: str) -> None:
        if (kind, path) == ("GET", "/src/1.csv"):
            rollcall.bucket.put("1.csv", b"x" * 70_000)

    rollcall.bucket.put_person("1")
    with proxied(rollcall, grow) as (app, _):
        summary = run(app)
    assert (summary["status"], counts(summary)) == ("done", {"listed": 1, "rejected": 1})
    assert [(rejection["object"], rejection["code"]) for rejection in summary["rejections"]] == [("1.csv", "too_large")]
    assert rollcall.sql("select etag from rejected") == [[etag_of(rollcall, "1.csv")]]
