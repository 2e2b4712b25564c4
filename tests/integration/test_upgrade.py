"""A database of version 1 can be upgraded, and version 1 can still use it afterwards."""

from collections.abc import Iterator
from typing import Any

import pytest
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.settings import PostgresSettings, load

from tests.postgres import MIGRATION_NAMES, MIGRATIONS, client_environment, set_up
from tests.runs import application, run
from tests.s3_proxy import counting
from tests.stack import Stack

VERSION_1 = MIGRATION_NAMES[:3]

RECREATE_SCHEMA = """
drop schema public cascade;
create schema public authorization rollcall_process;
grant usage on schema public to rollcall_query;
alter database rollcall owner to rollcall_process;
alter default privileges for role rollcall_process in schema public grant select on tables to rollcall_query
"""
OWNERS = "select distinct tableowner from pg_tables where schemaname = 'public'"


@pytest.fixture
def version_1(rollcall: Stack) -> Iterator[Connection]:
    """Yield a connection to an empty database of version 1, in which process-data itself applied the migrations."""
    rollcall.sql(RECREATE_SCHEMA)
    try:
        with Connection(load(PostgresSettings, rollcall.process_settings)) as connection:
            connection.run("create table migrations (name text primary key, applied_at timestamptz default now())")
            for name in VERSION_1:
                connection.run((MIGRATIONS / f"{name}.sql").read_text(encoding="utf-8"))
                connection.run("insert into migrations (name) values (:name)", name=name)
            yield connection
    finally:
        upgrade(rollcall)


def upgrade(stack: Stack) -> list[str]:
    """Run setup.sh, and return the migrations that it applied."""
    output = set_up(client_environment(stack.settings)).stdout
    return [line.removeprefix("applied ") for line in output.splitlines() if line.startswith("applied ")]


def etag(stack: Stack, key: str) -> str:
    stat = stack.bucket.client.stat_object(bucket_name="src", object_name=key)
    return str(stat.etag).strip('"')


def test_an_upgrade_keeps_people_and_rejections_and_only_a_file_rejected_as_older_is_fetched_again(
    rollcall: Stack, version_1: Connection
) -> None:
    for number in range(5):
        rollcall.bucket.put_person(f"{number}", birthts=number)
    rollcall.bucket.put("0.png", b"photo")
    for key in ("bad.csv", "5.csv", "6.csv", "7.csv", "8.csv"):
        rollcall.bucket.put(key, b"nonsense")
    rollcall.bucket.put_person("7", last="Older")
    for number in range(5):
        version_1.run(
            "insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified) "
            "values (:user, 'Ada', 'Lovelace', :birthts, :image, :etag, now())",
            user=str(number),
            birthts=number,
            image="src/0.png" if number == 0 else None,
            etag=etag(rollcall, f"{number}.csv"),
        )
    rejected: dict[str, tuple[str, str]] = {
        "bad.csv": ("bad_name", "the name must be <user_id>.csv, the user_id 1 to 18 digits"),
        "5.csv": ("missing_column", "missing column first_name; expected first_name, last_name, birthts"),
        "6.csv": ("in_the_future", "birthts is '4102444800000': expected a time in the past"),
        "7.csv": ("older_version", "it was last modified at …, before the version on the roll"),
        "8.csv": ("in_the_future", "birthts is '+999999999999999999': expected a time in the past"),
    }
    for key, (code, message) in rejected.items():
        version_1.run(
            "insert into rejected (object, etag, code, message) values (:key, :etag, :code, :message)",
            key=key,
            etag=etag(rollcall, key),
            code=code,
            message=message,
        )
    for prefix, status in (("", "done"), ("1", "partial"), (None, "done")):
        version_1.run(
            "insert into runs (trigger, prefix, status, summary, finished_at) values "
            """('cron', :prefix, :status, '{"added": 1, "rejections": [{"message": "birthts is ''x''"}]}', now())""",
            prefix=prefix,
            status=status,
        )
    assert rollcall.sql(OWNERS) == [["rollcall_process"]]
    assert rollcall.request("POST", "/function/process-data").json()["error"]["code"] == "schema_missing"
    assert upgrade(rollcall) == MIGRATION_NAMES[3:]
    assert rollcall.sql(OWNERS) == [["rollcall_owner"]]
    assert version_1.run("select scope from runs order by id") == [["bucket"], ["users"], ["users"]]
    assert version_1.run("select distinct summary from runs") == [[{"added": 1}]]  # no values from files
    assert version_1.run("select start, keys from segments") == [["", 1]]
    assert version_1.run("select object, rules, retry_after from rejected order by object") == [
        ["5.csv", 2, None],
        ["6.csv", 2, 4102444800000],
        ["8.csv", 2, 999999999999999999],
        ["bad.csv", 2, None],
    ]
    s3 = counting(rollcall.process_settings["s3_endpoint"])
    with s3 as (endpoint, requests), application(rollcall, s3_endpoint=endpoint) as app:
        summary: dict[str, Any] = run(app)
    assert (summary["status"], summary["unchanged"], summary["added"], summary["rejected"]) == ("done", 5, 1, 4)
    assert requests["GET"] == 1  # version 2 accepts what version 1 rejected as `older_version`


def test_version_1_can_use_the_upgraded_tables(rollcall: Stack) -> None:
    """After a rollback, version 1 writes rows without the new columns; version 2 then checks those rejections again."""
    rollcall.bucket.put("1.csv", b"")
    rollcall.process()
    for key in ("1.csv", "2.csv"):
        rollcall.bucket.put(key, b"nonsense")
    with Connection(load(PostgresSettings, rollcall.process_settings)) as connection:
        connection.run("insert into runs (trigger, call_id, prefix) values ('http', null, '')")
        connection.run(
            "update rejected set etag = :etag, code = 'older_version', line = null, message = 'older'",
            etag=etag(rollcall, "1.csv"),
        )
        connection.run(
            "insert into rejected (object, etag, code, message) values ('2.csv', :etag, 'empty', 'wrong')",
            etag=etag(rollcall, "2.csv"),
        )
    s3 = counting(rollcall.process_settings["s3_endpoint"])
    with s3 as (endpoint, requests), application(rollcall, s3_endpoint=endpoint) as app:
        codes = [rejection["code"] for rejection in run(app)["rejections"]]
        assert codes == ["unknown_column", "unknown_column"]
        assert requests["GET"] == 2
        run(app)
        assert requests["GET"] == 2
