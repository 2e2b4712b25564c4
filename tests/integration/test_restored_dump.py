"""A restored database gets its lost tombstones back before anything is exported."""

import io
import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from process_data import locks, tombstones
from process_data.restore import _lines
from process_data.shared.storage.errors import AccessDenied, Unavailable
from process_data.shared.storage.listing import ListingPage
from process_data.shared.storage.objects import Objects, Stream
from process_data.workers import Workers

from tests.documents import INFRA
from tests.guides import OPERATIONS, commands
from tests.postgres import SETUP, client_environment, dump, restore, set_up
from tests.postgres import run as run_program
from tests.rows import NEW_SECOND, exported, rows
from tests.runs import application, erase, run
from tests.stack import ROOT, Stack, connected

# Stubs for the guides' commands that need a deployment.
STUBS = """
set -euo pipefail
faas-cli() { :; }
rollcall() { :; }
run() { "$@"; }
"""


@pytest.mark.parametrize("first", ["bucket", "users", "event", "erase"])
def test_a_restored_dump_does_not_restore_erased_people(rollcall: Stack, tmp_path: Path, first: str) -> None:
    """After the first request, whatever its kind, no erased person is exported and no tombstone is missing."""
    for user_id in ("1", "2", "3", "4"):
        rollcall.bucket.put_person(user_id)
    rollcall.process()
    rollcall.erase("4")
    dump(rollcall.settings, tmp_path / "dump")
    rollcall.bucket.remove("2.csv")
    rollcall.erase("1", "2")
    before = rollcall.bucket.read_rows("erased.csv")
    restore(rollcall.settings, tmp_path / "dump")
    assert rows(rollcall) == ["1", "2", "3"]
    if first == "bucket":
        rollcall.process()
    elif first == "users":
        rollcall.process("?user_id=3")
    elif first == "event":
        assert rollcall.event("3.csv").status == 200
    else:
        rollcall.erase("4")
    assert rows(rollcall) == ["3"]
    assert exported(rollcall) == ["3"]
    assert rollcall.bucket.read_rows("erased.csv") == before
    rollcall.process()
    assert rows(rollcall) == ["3"]


@pytest.mark.parametrize("clock_error", ["0 hours", "1 hour"])
def test_a_second_erasure_after_the_dump_survives_a_restore(rollcall: Stack, tmp_path: Path, clock_error: str) -> None:
    """The dump has only the first tombstone; without the second one, the CSV would bring the user back.

    PostgreSQL's clock may have been fast at the first erasure.
    """
    rollcall.bucket.put_people(["1", "2"])
    rollcall.process()
    rollcall.erase("1")
    rollcall.sql("update erased set erased_at = erased_at + cast(:clock_error as interval)", clock_error=clock_error)
    dump(rollcall.settings, tmp_path / "dump")
    time.sleep(NEW_SECOND)
    rollcall.bucket.put_person("1")
    assert rollcall.process()["added"] == 1
    rollcall.erase("1")
    before = rollcall.bucket.read_rows("erased.csv")
    restore(rollcall.settings, tmp_path / "dump")
    rollcall.process()
    assert rows(rollcall) == exported(rollcall) == ["2"]
    assert rollcall.bucket.read_rows("erased.csv") == before


def test_nothing_is_exported_before_lost_tombstones_are_applied(
    rollcall: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for user_id in ("1", "2"):
        rollcall.bucket.put_person(user_id)
    rollcall.process()
    dump(rollcall.settings, tmp_path / "dump")
    rollcall.erase("1")
    before = rollcall.bucket.read("output.csv"), rollcall.bucket.read("erased.csv")
    restore(rollcall.settings, tmp_path / "dump")

    class Broken(Objects):
        """An S3 client that is denied erased.csv: by the server or, if `raises_directly`, before any request."""

        raises_directly = False

        def stream(self, bucket: str, key: str) -> Any:
            if self.raises_directly:
                raise AccessDenied("s3", f"S3 returned 403 for {bucket}/{key}")
            return super().stream(bucket, f"no-{key}")

    with application(rollcall, Broken) as app:
        assert run(app, keys=("2.csv",))["output"]["pending"]
        for first_name, raises_directly in (("Ada", False), ("Changed", True)):
            Broken.raises_directly = raises_directly
            rollcall.bucket.put_person("2", first_name)
            summary = run(app)
            assert (summary["status"], summary["output"]["pending"]) == ("partial", True)
            assert '"tombstones_not_applied", "message": "S3' in capsys.readouterr().err
        assert rollcall.sql("select objid from pg_locks where locktype = 'advisory'") == []
    assert (rollcall.bucket.read("output.csv"), rollcall.bucket.read("erased.csv")) == before
    rollcall.process()
    assert exported(rollcall) == ["2"]


def test_denied_access_to_s3_is_not_logged_as_lost_tombstones(
    rollcall: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()

    class Denied(Objects):
        def etag(self, bucket: str, key: str) -> str:
            raise AccessDenied("s3", f"S3 returned 403 for {bucket}/{key}")

    with application(rollcall, Denied) as app, pytest.raises(AccessDenied):
        run(app)
    assert "tombstones_not_applied" not in capsys.readouterr().err


def lose_erasure(rollcall: Stack) -> None:
    """Erase user 1, then undo this in the tables, as restoring an older dump would."""
    rollcall.erase("1")
    rollcall.sql("delete from erased")
    rollcall.sql(
        "insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified) "
        "values ('1', 'A', 'B', 0, '', now())"
    )
    rollcall.sql("update outputs set etag = '' where object = 'erased.csv'")


def test_lost_tombstones_not_applied_before_the_deadline_are_applied_by_the_next_run(rollcall: Stack) -> None:
    """Here another session holds the user's segment."""
    rollcall.bucket.put_people(["1", "2"])
    rollcall.process()
    lose_erasure(rollcall)
    with connected(rollcall.settings) as session:
        session.run("select pg_advisory_lock(:space, id::int) from segments", space=locks.SEGMENT)
        with application(rollcall, run_deadline="1") as app:
            assert run(app)["output"]["pending"]
    assert rows(rollcall) == ["1", "2"]
    rollcall.process()
    assert rows(rollcall) == exported(rollcall) == ["2"]
    assert rows(rollcall, "erased") == ["1"]


@pytest.mark.parametrize(("owner", "name"), [(tombstones, "missing"), (Workers, "rescan")])
def test_a_database_failure_before_or_after_a_repeated_erasure_loses_neither_the_erasure_nor_its_log_line(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], owner: object, name: str
) -> None:
    """The next attempt applies the lost tombstones that the failed one did not.

    Each attempt logs only its own erasures, so here there is one log line.
    """
    rollcall.bucket.put_people(["1", "2"])
    rollcall.process()
    lose_erasure(rollcall)
    failed: list[str] = []
    function = getattr(owner, name)

    def fail_once(*arguments: Any) -> Any:
        if not failed:
            failed.append(name)
            raise Unavailable("postgresql", "the session ended")
        return function(*arguments)

    monkeypatch.setattr(owner, name, fail_once)
    with application(rollcall) as app:
        summary = run(app)
    assert (summary["status"], summary["output"]["rows"]) == ("done", 1)
    assert failed
    assert capsys.readouterr().err.count('"event": "erased_again", "number": 1,') == 1
    assert rows(rollcall) == exported(rollcall) == ["2"]


def put_erased_csv(stack: Stack, body: bytes) -> None:
    stack.bucket.client.put_object(bucket_name="res", object_name="erased.csv", data=io.BytesIO(body), length=len(body))


def test_thousands_of_lost_tombstones_are_applied_and_invalid_lines_are_skipped(rollcall: Stack) -> None:
    rollcall.bucket.put_person("0")
    rollcall.process()
    lines = [f"{number},2026-01-01 00:00:00+00,{'2126-01-01 00:00:00+00' if number else ''}" for number in range(2500)]
    invalid = ["", "x", "y" * 300_000, "é,2026-01-01 00:00:00+00,"]
    invalid += ["9997,2026-01-01 00:00:00+00", "9998,2026-99-99 00:00:00+00,", "9999,now,"]
    lines[1] += "\r"  # as in a file that an editor has saved
    body = "\n".join(["user_id,erased_at,csv_modified", *invalid, *lines]).encode() + b"\n"
    put_erased_csv(rollcall, body)
    # user 0 is imported again, because their tombstone has no csv_modified
    assert rollcall.process()["output"]["rows"] == 1
    assert len(rows(rollcall, "erased")) == 2499
    assert [row["user_id"] for row in rollcall.bucket.read_rows("erased.csv")] == rows(rollcall, "erased")
    with application(rollcall) as app:
        assert not run(app)["output"]["written"]


class Interrupted(Objects):
    """An S3 client whose streams fail after the first chunk."""

    @contextmanager
    def stream(self, bucket: str, key: str) -> Iterator[Stream]:
        with super().stream(bucket, key) as stream:
            yield Stream(stream.etag, stream.size, self._first(stream.chunks))

    def _first(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield next(chunks)
        raise Unavailable("s3", "interrupted")


def test_each_run_logs_how_many_people_it_erased_again(rollcall: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    rollcall.process()
    lines = [f"{number},2026-01-01 00:00:00+00,2126-01-01 00:00:00+00\n" for number in range(1500)]
    put_erased_csv(rollcall, "".join(lines).encode())
    for objects, number in ((Interrupted, 1000), (Objects, 500)):
        with application(rollcall, objects) as app:
            run(app)
        logged = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "erased_again" in line]
        assert [line["number"] for line in logged] == [number]


def test_an_overlong_line_is_truncated() -> None:
    """Another program may have written the object; its lines must not fill the memory."""
    lines = list(_lines([b"x" * 1000] * 1000 + [b"\n1,a,b\n"]))
    assert lines[1:] == ["1,a,b", ""]
    assert len(lines[0]) < 2000


def test_a_segment_whose_scan_spanned_a_restore_is_scanned_again(rollcall: Stack) -> None:
    """The scan began before the restore, so its tick (a logical time) comes from the clock of the replaced database."""
    rollcall.process()
    rollcall.sql("update segments set scanned = (select last_value from ticks) + 1000, turn = 1000")
    rollcall.sql("insert into segments (start, turn) values ('2', 1)")  # never scanned
    rollcall.bucket.put_person("1")
    listed_after: list[str] = []

    class Traced(Objects):
        def list_page(self, bucket: str, *, start_after: str = "", **options: Any) -> ListingPage:
            listed_after.append(start_after)
            return super().list_page(bucket, start_after=start_after, **options)

    with application(rollcall, Traced, workers="1") as app:
        assert run(app)["added"] == 1
    assert listed_after[0] == ""  # this segment is the first in the queue
    assert rollcall.sql("select from segments where scanned > (select last_value from ticks)") == []


def test_an_old_erased_csv_does_not_remove_people_who_have_returned(rollcall: Stack) -> None:
    """An export that was frozen for a while may write such an object."""
    for user_id in ("1", "2"):
        rollcall.bucket.put_person(user_id)
    rollcall.process()
    rollcall.erase("1")
    body = rollcall.bucket.read("erased.csv")
    time.sleep(NEW_SECOND)
    rollcall.bucket.put_person("1")
    rollcall.process()
    assert rows(rollcall) == ["1", "2"]
    put_erased_csv(rollcall, body)
    rollcall.process("?user_id=2")
    assert (rows(rollcall), rows(rollcall, "erased")) == (["1", "2"], [])
    rollcall.process()
    assert exported(rollcall) == ["1", "2"]


def test_an_old_erased_csv_gets_the_later_tombstones_back(rollcall: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise a restore would lose them. Nobody is erased again, as the database has all tombstones of the file."""
    rollcall.erase("1")
    body = rollcall.bucket.read("erased.csv")
    rollcall.erase("2")
    put_erased_csv(rollcall, body)
    with application(rollcall) as app:
        run(app)
    assert [row["user_id"] for row in rollcall.bucket.read_rows("erased.csv")] == ["1", "2"]
    assert "erased_again" not in capsys.readouterr().err


def test_an_export_that_spanned_a_restore_does_not_count_as_written(rollcall: Stack) -> None:
    """Otherwise the restored database would not read erased.csv, and would lack its tombstones."""
    rollcall.bucket.put_person("1")
    rollcall.process()

    class Restoring(Objects):
        def put(self, bucket: str, key: str, chunks: Iterable[bytes], *, content_type: str) -> str:
            etag = super().put(bucket, key, chunks, content_type=content_type)
            if key == "erased.csv":
                rollcall.sql("update outputs set changed = 0, etag = 'of the dump' where object = 'erased.csv'")
            return etag

    with application(rollcall, Restoring) as app:
        erase(app, "1")
    assert rollcall.sql("select etag from outputs where object = 'erased.csv'") == [["of the dump"]]


@pytest.mark.parametrize("guide", ["own servers", "faasd"])
def test_the_guides_restore_a_dump_of_an_older_version(rollcall: Stack, tmp_path: Path, guide: str) -> None:
    """The restore also drops the tables that later migrations created; setup.sh creates them again."""
    rollcall.bucket.put_people(["1", "2"])
    rollcall.process()
    before = rollcall.sql("select * from users order by id")
    secrets = rollcall.state / "secrets"
    passwords = {
        "postgres": rollcall.settings["postgres_password"],
        "rollcall_backup": (secrets / "rollcall-backup-postgres-password").read_text(encoding="utf-8"),
    }
    passfile = tmp_path / "passwords"
    passfile.write_text("".join(f"*:*:*:{role}:{text}\n" for role, text in passwords.items()), encoding="utf-8")
    passfile.chmod(0o600)
    (tmp_path / "infra").symlink_to(ROOT / "infra")
    environment = client_environment(rollcall.settings) | {"PGPASSFILE": str(passfile)}
    del environment["PGPASSWORD"]

    def execute(script: str) -> str:
        script = script.replace("db.example", environment["PGHOST"]).replace("/rollcall/setup.sh", str(SETUP))
        return run_program(["bash", "-c", f"cd {tmp_path}\n{STUBS}{script}"], environment).stdout

    own_backup, own_restore = re.findall(
        r"^export PGHOST.*?(?=^export PGHOST|\Z)", commands(INFRA, "Backup and restore", ""), re.MULTILINE | re.DOTALL
    )
    restores = {"own servers": own_restore, "faasd": commands(OPERATIONS, "Restore a backup", "faasd")}
    try:
        rollcall.sql("drop table erased")
        rollcall.sql("delete from outputs where object = 'erased.csv'")
        rollcall.sql("delete from migrations where name = '0006_erased'")
        execute(own_backup)
        set_up(client_environment(rollcall.settings))
        rollcall.sql("delete from users where user_id = '1'")

        assert "applied 0006_erased" in execute(restores[guide])
        assert rollcall.sql("select * from users order by id") == before
        assert rollcall.process()["unchanged"] == 2
        assert rollcall.request("GET", "/function/query-data?count=1&limit=1").json()["count"] == 2
    finally:
        set_up(client_environment(rollcall.settings))
