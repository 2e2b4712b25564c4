"""The privileges of each database role, tested with real logins."""

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import pg8000.exceptions
import pg8000.native
import pytest

from tests.postgres import client_environment, run, set_up
from tests.stack import Stack, connected

DENIED = "42501"  # insufficient_privilege

VERBS = {
    "insert": "insert into {table} default values",
    "update": "update {table} set {column} = {column} where false",
    "delete": "delete from {table} where false",
    "truncate": "truncate {table}",
}

DML = {"insert", "update", "delete"}
WRITES: Mapping[str, Mapping[str, set[str]]] = {
    "rollcall_process": {
        "users": DML, "erased": DML, "rejected": DML, "segments": DML, "hints": DML,
        "runs": {"insert", "update"}, "outputs": {"update"}, "migrations": set(),
    },
    "rollcall_query": {},
    "rollcall_backup": {},
}  # fmt: skip
"""Allowed changes by role and table. Every role can read every table."""

FORBIDDEN = [
    # the schema
    "create table mine ()", "create table public.mine ()", "create view mine as select 1", "create schema mine",
    "create type mine as enum ()", "create function mine() returns int language sql as 'select 1'",
    "alter table users add column mine int", "alter table users drop column img_path",
    "alter table users rename to mine", "alter table users owner to current_user", "drop table users",
    "drop schema public cascade", "create index on users (updated_at)", "drop index users_birthdate",
    "reindex table users", "cluster users using users_changed", "alter sequence ticks restart",
    "select setval('ticks', 1)", "select nextval('users_id_seq')", "select nextval('segments_id_seq')",
    # triggers, rules and row-level security
    "alter table users disable trigger all", "set session_replication_role = replica",
    "create trigger mine before update on users for each row execute function suppress_redundant_updates_trigger()",
    "create rule mine as on delete to users do instead nothing", "alter table users enable row level security",
    # roles and other databases
    "create role mine", "create role mine login superuser", "alter role current_user createrole",
    "alter role rollcall_query superuser", "alter role rollcall_process password 'x'", "drop role rollcall_backup",
    "set role rollcall_owner", "set session authorization rollcall_owner", "set role postgres",
    "grant rollcall_owner to current_user", "grant pg_read_all_data to current_user",
    "select rolpassword from pg_authid", "select passwd from pg_shadow", "create database mine",
    "drop database rollcall", "alter database rollcall set work_mem = '1GB'",
    # the server
    "copy users to '/tmp/rollcall-mine'", "copy users to program 'true'", "copy hints from '/etc/passwd'",
    "copy hints from program 'true'", "select pg_read_file('/etc/passwd')", "select pg_ls_dir('/')",
    "select lo_import('/etc/passwd')", "select lo_export(1, '/tmp/rollcall-mine')", "select lo_create(0)",
    "select lo_creat(-1)", "select lo_from_bytea(0, 'x')", "alter system set work_mem = '1GB'",
    "set log_statement = 'all'", "checkpoint", "select pg_reload_conf()",
]  # fmt: skip

FORBIDDEN_TO_READERS = [
    "create temporary table mine ()", "create temporary view mine as select 1", "create temporary sequence mine",
    "select nextval('ticks')", "select nextval('runs_id_seq')", "select from users for update",
    "lock table users in row share mode",
]  # fmt: skip


def login_settings(stack: Stack, role: str) -> dict[str, str]:
    """Return settings to log in as a role."""
    if role == "rollcall_process":
        return stack.process_settings
    if role == "rollcall_query":
        return stack.query_settings
    password = (stack.state / "secrets/rollcall-backup-postgres-password").read_text(encoding="utf-8")
    return {**stack.settings, "postgres_user": role, "postgres_password": password}


@pytest.fixture(params=WRITES)
def session(rollcall: Stack, request: pytest.FixtureRequest) -> Iterator[tuple[str, pg8000.native.Connection]]:
    """Yield a role and a session of that role with its read-only default turned off, as any client can do."""
    role = str(request.param)
    with connected(login_settings(rollcall, role)) as connection:
        assert connection.run("select session_user, current_user") == [[role, role]]
        connection.run("set default_transaction_read_only = off")
        yield role, connection


def error_in_transaction(connection: pg8000.native.Connection, statement: str) -> str | None:
    """Run a statement and roll back. Return the SQLSTATE of its error, or None."""
    connection.run("begin")
    try:
        connection.run(statement)
    except pg8000.exceptions.DatabaseError as error:
        return str(error.args[0]["C"])
    finally:
        connection.run("rollback")
    return None


def error_outside_transaction(connection: pg8000.native.Connection, statement: str) -> str | None:
    """Like `error_in_transaction`, for a statement that cannot run in a transaction block."""
    try:
        connection.run(statement)
    except pg8000.exceptions.DatabaseError as error:
        return str(error.args[0]["C"])
    return None


def test_each_role_can_read_every_table_and_make_only_the_allowed_changes(
    rollcall: Stack, session: tuple[str, pg8000.native.Connection]
) -> None:
    role, connection = session
    columns = rollcall.sql(
        "select table_name, min(column_name) from information_schema.columns where table_schema = 'public' "
        "and is_identity = 'NO' and is_generated = 'NEVER' group by table_name order by 1"
    )
    assert {table for table, _ in columns} == WRITES["rollcall_process"].keys()
    for table, column in columns:
        connection.run(f"select * from {table}")
        allowed = {
            verb
            for verb, statement in VERBS.items()
            if error_in_transaction(connection, statement.format(table=table, column=column)) != DENIED
        }
        assert allowed == WRITES[role].get(table, set()), table


def test_forbidden_statements_are_denied_to_every_role(session: tuple[str, pg8000.native.Connection]) -> None:
    role, connection = session
    own = f"alter role {role} password 'x'"  # PostgreSQL always allows this; setup.sh sets the password again
    for statement in FORBIDDEN:
        if statement != own:
            attempt = (
                error_outside_transaction
                if statement.startswith(("create database", "drop database", "alter system"))
                else error_in_transaction
            )
            assert attempt(connection, statement) == DENIED, statement


def test_only_process_data_can_create_temporary_objects_advance_sequences_and_lock(
    session: tuple[str, pg8000.native.Connection],
) -> None:
    role, connection = session
    for statement in FORBIDDEN_TO_READERS:
        assert (error_in_transaction(connection, statement) == DENIED) == (role != "rollcall_process"), statement


@pytest.mark.parametrize("role", ["rollcall_query", "rollcall_backup"])
def test_reading_roles_are_read_only_by_default(rollcall: Stack, role: str) -> None:
    with connected(login_settings(rollcall, role)) as connection:
        assert connection.run("show default_transaction_read_only") == [["on"]]


@pytest.mark.parametrize("role", ["rollcall_process", "rollcall_query"])
def test_the_server_log_omits_statements_and_details_of_errors(rollcall: Stack, role: str) -> None:
    """The statement may contain a name from a request, and the detail may contain a row."""
    log = rollcall.state / "logs/postgres.log"
    marker = secrets.token_hex(8)
    with connected(login_settings(rollcall, role)) as connection:
        failing = f"do $$ begin raise 'failed {marker}' using detail = 'Quatermain {marker}'; end $$"
        assert error_in_transaction(connection, failing) == "P0001"
    rollcall.wait_until(lambda: f"failed {marker}" in log.read_text(encoding="utf-8"))
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if marker in line]
    assert len(lines) == 1, lines
    assert "Quatermain" not in lines[0]


def test_no_role_has_members_and_the_owner_cannot_log_in(stack: Stack) -> None:
    assert stack.sql(
        "select member::regrole::text from pg_auth_members where roleid::regrole::text ~ '^rollcall'"
    ) == []  # fmt: skip
    assert stack.sql("select rolcanlogin from pg_roles where rolname = 'rollcall_owner'") == [[False]]


def contents(environment: Mapping[str, str]) -> list[str]:
    """Return the lines of a dump of a database, except those with a random key."""
    dump = run(["pg_dump", "--no-large-objects"], environment).stdout
    return [line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def test_a_dump_by_the_backup_role_restores_an_equal_database(rollcall: Stack, tmp_path: Path) -> None:
    for number in range(20):
        rollcall.bucket.put_person(f"{number}")
    rollcall.bucket.put("bad.csv", b"")
    rollcall.process()
    rollcall.process("/erase?user_id=3")
    operator, dump = client_environment(rollcall.settings), str(tmp_path / "dump")
    backup = client_environment(login_settings(rollcall, "rollcall_backup"))
    rollcall.sql("select lo_create(4711)")  # dumps must skip large objects without failing
    try:
        run(["pg_dump", "--format=custom", "--no-large-objects", "--file", dump], backup)
    finally:
        rollcall.sql("select lo_unlink(4711)")
    copy = operator | {"PGDATABASE": "copy"}
    rollcall.sql("create database copy owner rollcall_owner template template0")
    try:
        options = ["--no-owner", "--no-privileges", "--role=rollcall_owner", "--single-transaction", "--exit-on-error"]
        run(["pg_restore", *options, "--clean", "--if-exists", "--dbname=copy", dump], copy)
        set_up(copy)
        assert contents(copy) == contents(operator)
        assert sum(line.startswith("COPY public.") for line in contents(copy)) == len(WRITES["rollcall_process"])
    finally:
        rollcall.sql("drop database copy with (force)")


def test_the_backup_role_cannot_restore(rollcall: Stack, tmp_path: Path) -> None:
    backup = client_environment(login_settings(rollcall, "rollcall_backup"))
    dump = str(tmp_path / "dump")
    run(["pg_dump", "--format=custom", "--no-large-objects", "--file", dump], backup)
    restore = ["pg_restore", "--clean", "--if-exists", "--exit-on-error", "--dbname=rollcall", dump]
    assert run(restore, backup | {"PGOPTIONS": "-c default_transaction_read_only=off"}, check=False).returncode
    assert rollcall.process()["status"] == "done"
