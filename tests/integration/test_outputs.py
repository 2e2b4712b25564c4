"""The objects in the result bucket: their content, and when they are written."""

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from process_data import outputs
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.listing import ListingPage
from process_data.shared.storage.objects import Objects
from process_data.shared.storage.settings import PostgresSettings, load

from tests.queries import add, mark_changed
from tests.rows import exported
from tests.runs import Slow, application, put_people, run, set_at_end
from tests.stack import HANG_TIMEOUT, Stack

VALUES = ("Ada", "O'Hara", "a,b", 'says ""', '"', "\\.", "\\N", " Łoś ", "line\r\nend", "tab\there")
"""Names, including some that no valid file can contain."""


def test_the_output_of_an_empty_bucket_has_only_a_header(rollcall: Stack) -> None:
    summary = rollcall.process()
    assert (summary["status"], summary["trigger"], summary["listed"]) == ("done", "http", 0)
    assert summary["segments"] == {"scanned": 1, "remaining": 0}
    assert summary["output"] == {"object": "res/output.csv", "rows": 0, "written": True, "pending": False}
    assert rollcall.bucket.read("output.csv") == b"user_id,first_name,last_name,birthts,img_path\n"
    stat = rollcall.bucket.client.stat_object(bucket_name="res", object_name="output.csv")
    assert stat.content_type == "text/csv; charset=utf-8"
    query = "select seconds > 0, written_at > (select started_at from runs) from outputs where object = 'output.csv'"
    assert rollcall.sql(query) == [[True, True]]


def test_rejected_csv_is_sorted_by_object(rollcall: Stack) -> None:
    keys = ["b.csv", "a b.csv", "Z.csv", "ä.csv", "_.csv", "10.CSV", "😀.csv", "～.csv", "-.csv"]
    for key in keys:
        rollcall.bucket.put(key, b"")
    rollcall.bucket.put("9.csv", b"")
    rollcall.process()
    rejected = rollcall.bucket.read_rows("rejected.csv")
    assert [row["object"].removeprefix("'") for row in rejected] == sorted([*keys, "9.csv"], key=str.encode)
    assert list(rejected[0]) == ["object", "line", "code", "message", "first_seen", "last_seen"]
    assert [(row["line"], row["code"]) for row in rejected if row["object"] in ("9.csv", "Z.csv")] == [
        ("1", "empty"),
        ("", "bad_name"),
    ]


def test_rejected_csv_neutralises_spreadsheet_formulas(rollcall: Stack) -> None:
    formulas = ['=cmd|"/c calc"!A1', "+1", "-1", "@SUM(1)", "＝1", "＋1", "－1", "＠1", "\t=1", "\r=1", "\n=1"]
    harmless = ["Ada", "", "'=1", " =1", "1=1"]
    for number, text in enumerate([*formulas, *harmless]):
        rollcall.sql(
            "insert into rejected (object, etag, code, message, rules, checked_etag) "
            "values (:text || :number, '', 'empty', :text, 1, '')",
            text=text,
            number=f"{number:02}",
        )
    rollcall.sql("update outputs set changed = changed + 1")
    with application(rollcall) as app:
        run(app, keys=["0.csv"])  # an unknown user: the run only exports
    rejected = {row["object"][-2:]: row for row in rollcall.bucket.read_rows("rejected.csv")}
    for number, text in enumerate([*formulas, *harmless]):
        apostrophe = "'" if text in formulas else ""
        row = rejected[f"{number:02}"]
        assert (row["object"], row["message"]) == (f"{apostrophe}{text}{number:02}", f"{apostrophe}{text}")


class StoresDuringExport(Objects):
    """An S3 client that calls `store` while it writes output.csv."""

    store: Callable[[], object]

    def put(self, bucket: str, key: str, chunks: Iterable[bytes], *, content_type: str) -> str:
        if key == "output.csv":
            chunks = self._store_between_chunks(iter(chunks))
        return super().put(bucket, key, chunks, content_type=content_type)

    def _store_between_chunks(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield next(chunks)
        self.store()
        yield from chunks


def test_an_output_is_a_snapshot_and_later_changes_are_in_the_next_one(rollcall: Stack) -> None:
    def store() -> None:
        add(rollcall, "2")
        mark_changed(rollcall)

    rollcall.bucket.put_person("1")
    with application(rollcall, StoresDuringExport) as app:
        assert isinstance(app.objects, StoresDuringExport)
        app.objects.store = store
        output = run(app, keys=["1.csv"])["output"]
    assert (output["rows"], output["written"]) == (1, True)
    assert [row["user_id"] for row in rollcall.bucket.read_rows("output.csv")] == ["1"]
    assert rollcall.process()["output"]["written"]
    assert [row["user_id"] for row in rollcall.bucket.read_rows("output.csv")] == ["1", "2"]


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_an_output_that_was_removed_or_replaced_is_written_again(rollcall: Stack, change: str) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()
    if change == "removed":
        rollcall.bucket.remove("output.csv", "res")
    else:
        rollcall.bucket.client.put_object(bucket_name="res", object_name="output.csv", data=io.BytesIO(b"x"), length=1)
    assert rollcall.process()["output"] == {"object": "res/output.csv", "rows": 1, "written": True, "pending": False}
    assert b"\n1,Ada,Lovelace," in rollcall.bucket.read("output.csv")


def test_a_run_that_changes_the_rejections_also_exports_them(rollcall: Stack) -> None:
    def run_and_read() -> list[tuple[str, str]]:
        rollcall.process()
        return [(row["object"], row["code"]) for row in rollcall.bucket.read_rows("rejected.csv")]

    rollcall.bucket.put_person("1")
    assert run_and_read() == []
    rollcall.bucket.put("1.csv", b"")  # the user's row stays, so output.csv does not change
    assert run_and_read() == [("1.csv", "empty")]
    rollcall.bucket.put("1.csv", b"first_name,last_name,birthts\n")
    assert run_and_read() == [("1.csv", "no_row")]
    rollcall.bucket.put_person("1")
    assert run_and_read() == []
    rollcall.bucket.put("x.csv", b"")
    assert run_and_read() == [("x.csv", "bad_name")]
    rollcall.bucket.remove("x.csv")
    assert run_and_read() == []
    rollcall.bucket.put("1.csv", b"x" * 70_000)
    assert run_and_read() == [("1.csv", "too_large")]
    rollcall.bucket.put("1.csv", b"first_name,last_name,birthts\nAda,Lovelace,0\n# again")
    assert run_and_read() == [("1.csv", "several_rows")]
    rollcall.bucket.put("1.csv", b"last_name,first_name,birthts\nLovelace,Ada,0\n")  # another file with the same values
    assert run_and_read() == []


def test_outputs_equal_the_result_of_a_copy_statement(rollcall: Stack) -> None:
    """The rows are in order, and none is missing or repeated where two chunks meet."""
    for index, value in enumerate(VALUES):
        rollcall.sql(
            "insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified) "
            "select n * 100 + :index, :value, :value || n, n - 600, case when n % 3 = 0 then 'src/x.png' end, '', "
            "now() from generate_series(1, 1001) n",
            index=index,
            value=value,
        )
    rollcall.sql(
        "insert into rejected (object, etag, line, code, message, rules, checked_etag) "
        "select last_name || user_id, '', nullif(birthts, 0), 'empty', first_name, 1, '' from users"
    )
    rollcall.sql(
        "insert into erased (user_id, erased_at, csv_modified, changed) "
        "select user_id, now() - birthts * interval '1 second', case when birthts % 3 = 0 then now() end, 0 from users"
    )
    rollcall.sql("update outputs set changed = changed + 1")
    with application(rollcall) as app:
        assert run(app, keys=["0.csv"])["output"]["rows"] == 10_010
    expected = {
        "output.csv": "select user_id, first_name, last_name, birthts, img_path from users order by user_id",
        "rejected.csv": "select object, line, code, message, first_seen, last_seen from rejected order by object",
        "erased.csv": "select user_id, erased_at, csv_modified from erased order by user_id",
    }
    with Connection(load(PostgresSettings, rollcall.process_settings)) as connection:
        for name, query in expected.items():
            with connection.copy_out(f"copy ({query}) to stdout (format csv, header)") as chunks:
                assert rollcall.bucket.read(name) == b"".join(chunks)


def test_an_object_is_adopted_only_if_no_other_run_has_written_or_adopted_it_meanwhile(rollcall: Stack) -> None:
    state = "select etag, changed from outputs where object = 'erased.csv'"
    [[etag, changed]] = rollcall.sql(state)
    with application(rollcall) as app, app.pool.connection() as connection:
        outputs.adopt(connection, "erased.csv", f"not {etag}", "read")
        assert rollcall.sql(state) == [[etag, changed]]
        outputs.adopt(connection, "erased.csv", etag, "read")
        assert rollcall.sql(state) == [["read", changed + 1]]


def test_an_export_is_made_at_the_start_of_a_run_if_the_previous_run_had_no_time_for_it(rollcall: Stack) -> None:
    """Otherwise a large output might never be written, because each run has too little time at its end."""
    rollcall.bucket.put_person("1")
    rollcall.process()
    slow_export = "written_at = now() - interval '1 year', seconds = 3600"
    rollcall.sql(f"update outputs set {slow_export} where object = 'output.csv'")
    rollcall.bucket.put_person("2")
    slow = type("Slow", (Slow,), {"page_seconds": 1.2})
    with application(rollcall, slow, run_deadline="10") as app:
        assert run(app)["output"]["pending"]
        assert exported(rollcall) == ["1"]
        assert run(app)["output"]["written"]
    assert exported(rollcall) == ["1", "2"]


def test_a_run_exports_its_progress_if_it_is_stopped_while_it_waits_for_s3(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("process_data.deadline.GRACE", 0.5)
    put_people(rollcall, range(25, 30))
    released = threading.Event()

    class Hanging(Objects):
        """Hangs at the second segment."""

        def list_page(self, bucket: str, **options: Any) -> ListingPage:
            if options.get("start_after") and not options.get("prefix"):
                app.stopping.set()
                released.wait(HANG_TIMEOUT)
            return super().list_page(bucket, **options)

    with application(rollcall, Hanging, segment_keys="10", workers="1") as app, set_at_end(released):
        assert run(app)["output"]["written"]  # leaves idle threads, which start a call later than new threads
        put_people(rollcall, range(20))
        summary = run(app)
    assert 0 < summary["added"] < 20
    assert (summary["status"], summary["output"]["written"]) == ("partial", True)


def test_a_full_run_is_partial_if_it_could_not_check_the_output(rollcall: Stack) -> None:
    """The object may have been removed or overwritten since it was written."""
    rollcall.bucket.put_person("1")
    rollcall.process()

    released = threading.Event()

    class Silent(Objects):
        def etag(self, bucket: str, key: str) -> str:
            if key == "output.csv":
                released.wait(HANG_TIMEOUT)
            return super().etag(bucket, key)

    with application(rollcall, Silent, run_deadline="1") as app, set_at_end(released):
        summary = run(app)
    assert (summary["status"], summary["output"]["pending"], summary["segments"]["remaining"]) == ("partial", True, 0)
    assert rollcall.process()["status"] == "done"
