"""setup.sh brings a database, whether empty, older or current, to the same state."""

import base64
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pg8000.native
import pytest

from infra.local.config.accounts import PASSWORD_SECRETS
from tests.postgres import MIGRATION_NAMES, MIGRATIONS, run, set_up
from tests.postgres_server import PostgresServer, running_server

LOGINS = ("rollcall_process", "rollcall_query", "rollcall_backup")
DONE = "roles and privileges set"
ADMINISTRATOR = "administrator"

OWNERS = """
select datname, datdba::regrole from pg_database where datname = current_database()
union all select nspname, nspowner::regrole from pg_namespace where nspname = 'public'
union all select relname, relowner::regrole from pg_class where relnamespace = 'public'::regnamespace
"""

PRIVILEGES = """
select oid::regclass::text, relacl from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'S')
union all select oid::regnamespace::text, nspacl from pg_namespace where nspname = 'public'
order by 1
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with running_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(cluster: PostgresServer) -> Iterator[PostgresServer]:
    """Yield a server without Rollcall's roles. Its empty database belongs to an administrator, not to a superuser."""
    cluster.sql(
        f"create role {ADMINISTRATOR} login createdb createrole password '{ADMINISTRATOR}'",
        f"create database rollcall owner {ADMINISTRATOR}",
        database="postgres",
    )
    yield cluster
    cluster.sql("drop database rollcall with (force)", database="postgres")
    roles = cluster.sql("select rolname from pg_roles where rolname ~ '^(rollcall|administrator)'", database="postgres")
    # the administrator last, because it granted the privileges of the others
    for (role,) in sorted(roles, reverse=True):
        cluster.sql(f"drop owned by {role}", f"drop role {role}", database="postgres")


def applied_migrations(output: str) -> list[str]:
    return re.findall(r"^applied (\S+)$", output, re.MULTILINE)


def copy_migrations(directory: Path, names: list[str]) -> Path:
    """Create a directory with these migrations."""
    directory.mkdir()
    for name in names:
        shutil.copy(MIGRATIONS / f"{name}.sql", directory)
    return directory


def can_log_in(server: PostgresServer, role: str, password: str) -> bool:
    environment = server.environment(role, password=password)
    try:
        pg8000.native.Connection(
            role, host=environment["PGHOST"], port=server.port, database="rollcall", password=password
        ).close()
    except pg8000.native.DatabaseError:
        return False
    return True


@pytest.mark.parametrize("user", ["postgres", ADMINISTRATOR])
def test_setup_creates_everything_once(server: PostgresServer, user: str) -> None:
    environment = server.environment(user) | {"SECRETS": str(server.secrets)}
    first, second = (set_up(environment).stdout for _ in range(2))
    assert applied_migrations(first) == MIGRATION_NAMES
    passwords = [f"password set: {role}" for role in LOGINS]
    assert first.splitlines()[len(MIGRATION_NAMES) :] == second.splitlines() == [DONE, *passwords]
    assert {owner for _, owner in server.sql(OWNERS)} == {"rollcall_owner"}
    assert server.sql("select name from migrations order by name") == [[name] for name in MIGRATION_NAMES]
    for role in LOGINS:
        assert can_log_in(server, role, (server.secrets / PASSWORD_SECRETS[role]).read_text())
    assert server.sql("select rolcanlogin from pg_roles where rolname = 'rollcall_owner'") == [["f"]]
    assert server.sql(
        "select rolname from pg_roles where rolname ~ '^rollcall' and "
        "(rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)"
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("encoding 'SQL_ASCII' locale_provider libc locale 'C'", "the encoding of the database is SQL_ASCII"),
        ("locale_provider libc locale 'C'", "lower() changes only ASCII letters"),
    ],
)
def test_setup_fails_without_creating_roles_if_the_database_is_not_utf8_or_lower_changes_only_ascii(
    server: PostgresServer, options: str, message: str
) -> None:
    """In the locale C, filters by name would not ignore the case of letters such as Ł."""
    server.sql("drop database rollcall", f"create database rollcall template template0 {options}", database="postgres")
    result = set_up(server.environment(), check=False)
    assert result.returncode
    assert message in result.stderr
    assert server.sql("select count(*) from pg_roles where rolname ~ '^rollcall'") == [["0"]]


def test_concurrent_setups_apply_each_migration_once(server: PostgresServer) -> None:
    environment = server.environment() | {"SECRETS": str(server.secrets)}
    with ThreadPoolExecutor(6) as executor:
        outputs = [result.stdout for result in executor.map(lambda _: set_up(environment), range(6))]
    assert sorted(applied_migrations("".join(outputs))) == MIGRATION_NAMES
    assert all(DONE in output for output in outputs)


def test_a_failed_migration_is_rolled_back(server: PostgresServer, tmp_path: Path) -> None:
    environment = server.environment() | {"MIGRATIONS": str(copy_migrations(tmp_path / "migrations", MIGRATION_NAMES))}
    failing = tmp_path / "migrations" / "9998_failing.sql"
    failing.write_text("create table half ();\nselect 1 / 0;\n")
    (tmp_path / "migrations" / "9999_next.sql").write_text("create table next ();\n")
    result = set_up(environment, check=False)
    assert result.returncode
    assert "9998_failing.sql:2: ERROR:  division by zero" in result.stderr
    assert applied_migrations(result.stdout) == MIGRATION_NAMES
    assert DONE not in result.stdout
    assert server.sql("select to_regclass('half'), to_regclass('next')") == [["", ""]]
    assert server.sql("select count(*) from migrations") == [[str(len(MIGRATION_NAMES))]]
    failing.write_text("create table half ();\n")
    assert applied_migrations(set_up(environment).stdout) == ["9998_failing", "9999_next"]


@pytest.mark.parametrize("user", ["postgres", ADMINISTRATOR])
def test_setup_gives_an_older_database_the_owner_and_privileges_of_a_new_one(
    server: PostgresServer, tmp_path: Path, user: str
) -> None:
    """In version 1, rollcall_process owned everything and granted default privileges, as the README said then."""
    migrations = copy_migrations(tmp_path / "migrations", MIGRATION_NAMES[:3])
    server.sql("create role rollcall_process login", "create role rollcall_query login", user=user)
    server.sql(
        "grant rollcall_process to current_user",
        "alter database rollcall owner to rollcall_process",
        "alter schema public owner to rollcall_process",
        "alter default privileges for role rollcall_process in schema public grant select on tables to rollcall_query",
        "set role rollcall_process",
        "create table migrations (name text primary key, applied_at timestamptz default now())",
        *(path.read_text() for path in sorted(migrations.iterdir())),
        f"insert into migrations select unnest('{{{','.join(MIGRATION_NAMES[:3])}}}'::text[])",
        "insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified) "
        "values ('1', 'Ada', 'Lovelace', 0, '', now())",
        "reset role",
        "revoke rollcall_process from current_user",
        user=user,
    )  # fmt: skip
    assert applied_migrations(set_up(server.environment(user)).stdout) == MIGRATION_NAMES[3:]
    assert {owner for _, owner in server.sql(OWNERS)} == {"rollcall_owner"}
    assert server.sql("select user_id from users") == [["1"]]
    assert server.sql("select count(*) from pg_default_acl") == [["0"]]
    assert server.sql(f"select pg_has_role('{ADMINISTRATOR}', 'rollcall_process', 'usage')") == [["f"]]
    upgraded_privileges = server.sql(PRIVILEGES)
    server.sql("drop schema public cascade", "create schema public")
    set_up(server.environment())
    assert server.sql(PRIVILEGES) == upgraded_privileges, "an upgraded database must have the privileges of a new one"


def test_setup_revokes_manual_grants(server: PostgresServer) -> None:
    set_up(server.environment())
    expected = server.sql(PRIVILEGES)
    server.sql(
        "grant all on all tables in schema public to public, rollcall_process, rollcall_query, rollcall_backup",
        "grant all on all sequences in schema public to rollcall_query",
        "grant create on schema public to rollcall_process, public",
        "grant create, temporary on database rollcall to public, rollcall_query",
        "alter role rollcall_query set default_transaction_read_only = off",
    )
    set_up(server.environment())
    assert server.sql(PRIVILEGES) == expected
    [[settings]] = server.sql("select rolconfig from pg_roles where rolname = 'rollcall_query'")
    assert "default_transaction_read_only=on" in settings
    [[database]] = server.sql("select datacl from pg_database where datname = 'rollcall'")
    assert set(database.strip("{}").split(",")) == {
        "rollcall_owner=CTc/rollcall_owner", "rollcall_process=Tc/rollcall_owner",
        "rollcall_query=c/rollcall_owner", "rollcall_backup=c/rollcall_owner",
    }  # fmt: skip


@pytest.mark.parametrize("user", ["postgres", ADMINISTRATOR])
def test_the_administrators_own_tables_are_kept_and_dumped(server: PostgresServer, user: str) -> None:
    set_up(server.environment(user))
    server.sql("create table kept (content text)", "insert into kept values ('own content')", user=user)
    set_up(server.environment(user) | {"SECRETS": str(server.secrets)})
    assert ["kept", user] in server.sql(OWNERS)
    assert "own content" in run(["pg_dump"], server.environment("rollcall_backup")).stdout


def test_process_data_can_read_every_table(server: PostgresServer) -> None:
    set_up(server.environment())
    unreadable = server.sql(
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' "
        "and not has_table_privilege('rollcall_process', oid, 'select')"
    )
    assert unreadable == []


def test_passwords_with_special_characters_work_and_are_not_exposed(server: PostgresServer, tmp_path: Path) -> None:
    server.sql(
        "alter system set log_statement = 'all'",
        "alter system set log_min_duration_statement = 0",
        "select pg_reload_conf()",
    )
    passwords = {role: f"hidden-{role}'s \\ \"new\" :'x' $$ %s ü, x" for role in LOGINS}
    for role, password in passwords.items():
        (tmp_path / PASSWORD_SECRETS[role]).write_text(password, encoding="utf-8")
    # a psql that records its arguments and environment
    record = tmp_path / "called"
    (tmp_path / "bin").mkdir()
    environment = server.environment()
    program = tmp_path / "bin/psql"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$0 $*" >> "{record}"; env >> "{record}"\n'
        f'exec "{shutil.which("psql", path=environment["PATH"])}" "$@"\n'
    )
    program.chmod(0o755)
    environment |= {"PATH": f"{program.parent}:{environment['PATH']}", "SECRETS": str(tmp_path)}
    try:
        result = set_up(environment)
        for role, password in passwords.items():
            assert can_log_in(server, role, password)
    finally:
        server.sql("alter system reset all", "select pg_reload_conf()")
    texts = [result.stdout, result.stderr, record.read_text(encoding="utf-8"), server.log.read_text(errors="replace")]
    assert "copy passwords" in texts[-1], "the server log must contain the statements"
    assert not [text for text in texts if "hidden" in text]


def test_setup_strips_white_space_around_a_password_as_the_functions_do(server: PostgresServer, tmp_path: Path) -> None:
    for role in LOGINS:
        (tmp_path / PASSWORD_SECRETS[role]).write_bytes(b"\n\t the password \r\n\n")
    set_up(server.environment() | {"SECRETS": str(tmp_path)})
    for role in LOGINS:
        assert can_log_in(server, role, "the password")


def test_an_error_about_an_invalid_password_does_not_contain_it(server: PostgresServer, tmp_path: Path) -> None:
    for role in LOGINS:
        (tmp_path / PASSWORD_SECRETS[role]).write_text("hidden-password", encoding="utf-8")
    key = base64.b64encode(b"k" * 32).decode()
    verifier = f"SCRAM-SHA-256$4096:{'hidden' * 100}${key}:{key}"  # too long for PostgreSQL
    (tmp_path / PASSWORD_SECRETS["rollcall_backup"]).write_text(verifier, encoding="utf-8")
    result = set_up(server.environment() | {"SECRETS": str(tmp_path)}, check=False)
    assert result.returncode
    assert "cannot set the password of rollcall_backup: encrypted password is too long" in result.stderr
    assert "hidden" not in result.stdout + result.stderr + server.log.read_text(errors="replace")
    assert not can_log_in(server, "rollcall_process", "hidden-password"), "all passwords must be set, or none"


@pytest.mark.parametrize("role", LOGINS)
@pytest.mark.parametrize("content", [None, "", "\n", " \r\n"])
def test_setup_fails_without_creating_roles_if_a_password_is_missing_or_blank(
    server: PostgresServer, tmp_path: Path, role: str, content: str | None
) -> None:
    for login in LOGINS:
        (tmp_path / PASSWORD_SECRETS[login]).write_text("new", encoding="utf-8")
    (tmp_path / PASSWORD_SECRETS[role]).unlink()
    if content is not None:
        (tmp_path / PASSWORD_SECRETS[role]).write_text(content)
    result = set_up(server.environment() | {"SECRETS": str(tmp_path)}, check=False)
    assert result.returncode
    assert f"{tmp_path / PASSWORD_SECRETS[role]}: expected a password" in result.stderr
    assert server.sql("select to_regrole('rollcall_process')") == [[""]]


def test_setup_fails_without_creating_roles_if_a_password_is_unreadable(server: PostgresServer, tmp_path: Path) -> None:
    for role in LOGINS:
        (tmp_path / PASSWORD_SECRETS[role]).mkdir()  # unlike a file without permissions, not even root can read it
    result = set_up(server.environment() | {"SECRETS": str(tmp_path)}, check=False)
    assert result.returncode
    assert f"{tmp_path / PASSWORD_SECRETS[LOGINS[0]]}: expected a password" in result.stderr
    assert server.sql("select to_regrole('rollcall_process')") == [[""]]
