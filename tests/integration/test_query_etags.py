"""ETags of query-data, and the headers of HEAD."""

import re
from pathlib import Path

import pytest
from query_data import etags
from query_data.formats import FORMATS, TABLE_FORMATS

from tests.postgres import dump, restore
from tests.queries import add, get, mark_changed
from tests.replica import query_replica
from tests.stack import Stack, connected


def test_a_database_with_a_different_export_has_different_etags(rollcall: Stack) -> None:
    """Even if `changed` and `xmin` are the same by chance, as they are here within one transaction."""
    states = []
    with connected(rollcall.settings) as connection:
        connection.run("begin")
        for export in ("one export", "another"):
            connection.run("update outputs set etag = :etag", etag=export)
            states += connection.run(f"select {etags.state_sql('users', 'rejected')}")
        connection.run("rollback")
    first, second = states
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_a_new_version_has_different_etags(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may render the same data differently."""
    before = etags.make_etag(["state"], "query")
    monkeypatch.setattr(etags, "VERSION", "next")
    assert etags.make_etag(["state"], "query") != before


def test_a_restored_database_has_different_etags_even_before_its_next_export(rollcall: Stack, tmp_path: Path) -> None:
    def change(name: str) -> None:
        add(rollcall, "1", name)
        rollcall.sql(
            "insert into rejected (object, etag, code, message) values ('2.csv', 'x', 'empty', :name)", name=name
        )
        rollcall.sql("update outputs set changed = changed + 1")

    dump(rollcall.settings, tmp_path / "dump")
    change("Ada")
    before = {path: get(rollcall, path).headers["ETag"] for path in ("", "/rejected")}
    restore(rollcall.settings, tmp_path / "dump")
    change("Grace")
    for path, etag in before.items():
        response = get(rollcall, path, If_None_Match=etag)
        assert (response.status, b"Grace" in response.body) == (200, True)


def test_the_etag_depends_on_the_data_the_query_and_the_format(rollcall: Stack) -> None:
    add(rollcall, "1")
    first = get(rollcall, "?limit=5")
    etag = first.headers["ETag"]
    assert re.fullmatch('"[0-9a-f]{32}"', etag)
    assert get(rollcall, "?limit=5").headers["ETag"] == etag
    others = [
        get(rollcall, query).headers["ETag"] for query in ("?limit=6", "?limit=5&min_age=1", "?limit=5&format=csv", "")
    ]
    assert len({etag, *others}) == 5
    unchanged = get(rollcall, "?limit=5", If_None_Match=f'"other", W/{etag}')  # weak, as after compression by a proxy
    assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", etag)
    assert (unchanged.headers["Vary"], unchanged.headers["Cache-Control"]) == ("Accept", "private, no-cache")
    assert "Content-Type" not in unchanged.headers  # a cache would replace the stored one
    mark_changed(rollcall)
    again = get(rollcall, "?limit=5", If_None_Match=etag)
    assert (again.status, again.body) == (200, first.body)
    assert again.headers["ETag"] != etag


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_stream_must_not_be_cached(rollcall: Stack, method: str) -> None:
    """A cache cannot tell an interrupted stream from a complete one, and would serve it until the data changes."""
    add(rollcall, "1")
    response = rollcall.request(method, "/function/query-data?format=csv")
    assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
    again = rollcall.request(method, "/function/query-data?format=csv", If_None_Match=response.headers["ETag"])
    assert again.status == 304  # a client that has checked that its copy is complete may revalidate it


@pytest.mark.parametrize("query", ["?limit=1", "?limit=1&format=csv", "", "?format=csv", "?format=ndjson", "?count=1"])
def test_head_has_the_headers_of_get(rollcall: Stack, query: str) -> None:
    add(rollcall, "1")
    add(rollcall, "2")
    full, head = get(rollcall, query), rollcall.request("HEAD", f"/function/query-data{query}")
    omitted = {"Date", "X-Call-Id", "X-Start-Time", "Transfer-Encoding", "Connection"}
    assert (head.status, head.body) == (200, b"")
    assert {k: v for k, v in head.headers.items() if k not in omitted} == {
        k: v for k, v in full.headers.items() if k not in omitted
    }


def test_a_run_changes_the_etag_of_json_only_if_it_changes_data(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()
    etag = get(rollcall).headers["ETag"]
    rollcall.process()
    assert get(rollcall, "", If_None_Match=etag).status == 304
    rollcall.bucket.put("1.png", b"png")
    rollcall.process()
    response = get(rollcall, "", If_None_Match=etag)
    assert (response.status, response.json()["result"][0]["img_path"]) == (200, "src/1.png")


def test_all_replicas_have_the_same_etags(rollcall: Stack) -> None:
    """The gateway may send each request of a client to a different replica."""
    rollcall.bucket.put_person("1")
    rollcall.bucket.put("2.csv", b"")
    rollcall.process()
    urls = [
        f"{path}?format={format_name}"
        for path, formats in (("/", FORMATS), ("/rejected", TABLE_FORMATS), ("/runs", TABLE_FORMATS))
        for format_name in formats
    ]
    with query_replica(rollcall) as first, query_replica(rollcall) as second:
        for url in (*urls, "/?limit=1&sort=-birthdate&name=a", "/stats"):
            etag = first.request("GET", url).headers["ETag"]
            assert second.request("GET", url, If_None_Match=etag).status == 304, url
