"""ETags of query-data, and the headers of HEAD."""

import pytest

from tests.queries import add, get, mark_changed
from tests.stack import Stack


def test_a_database_with_the_same_change_count_has_another_etag(roll: Stack) -> None:
    add(roll, "1")
    roll.process()
    before = get(roll).headers["ETag"]
    roll.sql("update outputs set etag = 'of another export'")
    assert get(roll, "", If_None_Match=before).status == 200


def test_the_etag_depends_on_the_data_the_query_and_the_format(roll: Stack) -> None:
    add(roll, "1")
    first = get(roll, "?limit=5")
    etag = first.headers["ETag"]
    assert get(roll, "?limit=5").headers["ETag"] == etag
    others = [
        get(roll, query).headers["ETag"] for query in ("?limit=6", "?limit=5&min_age=1", "?limit=5&format=csv", "")
    ]
    assert len({etag, *others}) == 5
    unchanged = get(roll, "?limit=5", If_None_Match=f'"other", W/{etag}')  # as if a proxy compressed it
    assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", etag)
    assert (unchanged.headers["Vary"], unchanged.headers["Cache-Control"]) == ("Accept", "private, no-cache")
    mark_changed(roll)
    again = get(roll, "?limit=5", If_None_Match=etag)
    assert (again.status, again.body) == (200, first.body)
    assert again.headers["ETag"] != etag


@pytest.mark.parametrize("query", ["?limit=1", "?limit=1&format=csv", "", "?format=csv", "?format=ndjson", "?count=1"])
def test_head_has_the_headers_of_get(roll: Stack, query: str) -> None:
    add(roll, "1")
    add(roll, "2")
    full, head = get(roll, query), roll.request("HEAD", f"/function/query-data{query}")
    own = {"Date", "X-Call-Id", "X-Start-Time", "Transfer-Encoding", "Connection"}
    assert (head.status, head.body) == (200, b"")
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in full.headers.items() if k not in own
    }


def test_the_etag_changes_only_with_a_run_that_changes_data(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    etag = get(roll).headers["ETag"]
    roll.process()
    assert get(roll, "", If_None_Match=etag).status == 304
    roll.bucket.put("1.png", b"png")
    roll.process()
    response = get(roll, "", If_None_Match=etag)
    assert (response.status, response.json()["result"][0]["img_path"]) == (200, "src/1.png")
