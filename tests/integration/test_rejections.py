"""Bad files are rejected, block no others, and are checked again when the result may change."""

from time import time_ns

from process_data.rejections import RULES
from process_data.runs import Trigger

from tests.rows import output, people
from tests.runs import counts, proxied, run
from tests.samples import samples
from tests.stack import Stack


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
    assert {rejection["object"]: (rejection["line"], rejection["code"]) for rejection in summary["rejections"]} == {
        key: (rejection["line"], rejection["code"]) for key, rejection in expected.items()
    }
    for rejection in summary["rejections"]:
        assert expected[rejection["object"]]["message"] in rejection["message"]
    stored = roll.sql("select object, line, code, message from rejected order by object")
    columns = ("object", "line", "code", "message")
    assert stored == [[rejection[name] for name in columns] for rejection in summary["rejections"]]
    assert [(row["first_name"], row["last_name"], int(row["birthts"])) for row in output(roll)] == [
        (sample.expected["first_name"], sample.expected["last_name"], sample.expected["birthts"]) for sample in good
    ]
    assert output(roll) == people(roll)
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


def test_a_rejection_ends_when_its_file_is_removed_or_corrected(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    for key in ("1.csv", "2.csv", "name.csv"):
        roll.bucket.put(key, b"nonsense")
    assert roll.process()["rejected"] == 3
    roll.bucket.put_person("1")
    roll.bucket.remove("2.csv")
    roll.bucket.remove("name.csv")
    assert counts(roll.process()) == {"listed": 1, "unchanged": 1}


def etag_of(roll: Stack, key: str) -> str:
    return str(roll.bucket.client.stat_object(bucket_name="src", object_name=key).etag)


REJECT = """
insert into rejected (object, etag, checked_etag, line, code, message, rules, retry_after)
values (:object, :etag, :etag, 2, :code, 'earlier message', :rules, :retry_after)
"""


def test_an_unchanged_rejected_file_is_not_fetched_again(roll: Stack) -> None:
    roll.bucket.put("1.csv", b"")
    roll.bucket.put("x.csv", b"")
    with proxied(roll) as (app, requests):
        assert run(app)["rejected"] == 2
        assert requests["GET"] == 1
        before = roll.sql("select *, xmin::text from rejected")
        assert run(app)["rejected"] == 2
        assert run(app, Trigger.EVENT, objects=("1.csv", "x.csv"))["rejected"] == 2
        assert requests["GET"] == 1
        assert roll.sql("select *, xmin::text from rejected") == before
        roll.bucket.put("1.csv", b"\n")
        for _ in range(2):  # the second run knows the new content
            assert run(app)["rejected"] == 2
            assert requests["GET"] == 2


def test_a_birth_in_the_future_is_fetched_again_only_once_it_has_passed(roll: Stack) -> None:
    now = time_ns() // 1_000_000
    later = now + 3_600_000
    roll.bucket.put_person("1", birthts=later)
    roll.bucket.put_person("2", birthts=now)  # as if it had been rejected before its birth
    roll.sql(REJECT, object="2.csv", etag=etag_of(roll, "2.csv"), code="in_the_future", rules=RULES, retry_after=later)
    with proxied(roll) as (app, requests):
        assert counts(run(app)) == {"listed": 2, "rejected": 2}
        assert requests["GET"] == 1
        assert roll.sql("select object, code, retry_after from rejected order by object") == [
            ["1.csv", "in_the_future", later],
            ["2.csv", "in_the_future", later],
        ]
        assert counts(run(app)) == {"listed": 2, "rejected": 2}
        assert requests["GET"] == 1
        roll.sql("update rejected set retry_after = :now where object = '2.csv'", now=now)
        assert counts(run(app)) == {"listed": 2, "added": 1, "rejected": 1}
        assert requests["GET"] == 2
    assert [row["user_id"] for row in output(roll)] == ["2"]


def test_a_rejection_by_older_rules_is_checked_again_once(roll: Stack) -> None:
    roll.bucket.put("1.csv", b"")
    roll.bucket.put_person("2")
    for key in ("1.csv", "2.csv"):
        roll.sql(REJECT, object=key, etag=etag_of(roll, key), code="no_row", rules=RULES - 1, retry_after=None)
    with proxied(roll) as (app, requests):
        assert counts(run(app)) == {"listed": 2, "added": 1, "rejected": 1}
        assert roll.sql("select object, code, rules from rejected") == [["1.csv", "empty", RULES]]
        assert requests["GET"] == 2
        assert counts(run(app)) == {"listed": 2, "unchanged": 1, "rejected": 1}
        assert requests["GET"] == 2


def test_a_csv_over_64_kib_is_rejected_without_fetching(roll: Stack) -> None:
    person = b"first_name,last_name,birthts\nAda,Lovelace,0\n"
    roll.bucket.put("1.csv", person.ljust(65_536, b"\n"))
    roll.bucket.put("2.csv", person.ljust(65_537, b"\n"))
    with proxied(roll) as (app, requests):
        summary = run(app)
    assert counts(summary) == {"listed": 2, "added": 1, "rejected": 1}
    assert [(rejection["object"], rejection["code"]) for rejection in summary["rejections"]] == [("2.csv", "too_large")]
    assert requests["GET"] == 1


def test_an_object_that_grew_after_the_listing_is_rejected(roll: Stack) -> None:
    def grow(kind: str, path: str) -> None:
        if (kind, path) == ("GET", "/src/1.csv"):
            roll.bucket.put("1.csv", b"x" * 70_000)

    roll.bucket.put_person("1")
    with proxied(roll, grow) as (app, _):
        summary = run(app)
    assert (summary["status"], counts(summary)) == ("done", {"listed": 1, "rejected": 1})
    assert [(rejection["object"], rejection["code"]) for rejection in summary["rejections"]] == [("1.csv", "too_large")]
    assert roll.sql("select etag from rejected") == [[etag_of(roll, "1.csv")]]
