"""The schema: numbered SQL files, each applied once, in order, in one transaction with its record."""

from pathlib import Path

from .records import Connection

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK = 0x726F6C6C63616C6C  # "rollcall" in ASCII: our key among the database's advisory locks


def migrate(connection: Connection, directory: Path = MIGRATIONS) -> list[str]:
    """Apply what is pending and return its names. Several callers at once are safe: one does the work."""
    files = {path.stem: path for path in sorted(directory.glob("*.sql"))}
    if not files.keys() - _applied(connection):
        return []
    return [name for name, path in files.items() if _apply(connection, name, path.read_text(encoding="utf-8"))]


def _applied(connection: Connection) -> set[str]:
    if connection.run("select to_regclass('migrations')")[0][0] is None:
        return set()
    return {name for (name,) in connection.run("select name from migrations")}


def _apply(connection: Connection, name: str, sql: str) -> bool:
    with connection.transaction():
        connection.run("select pg_advisory_xact_lock(:key)", key=_LOCK)
        connection.run(
            "create table if not exists migrations (name text primary key, applied_at timestamptz default now())"
        )
        if connection.run("select from migrations where name = :name", name=name):
            return False
        connection.script(sql)
        connection.run("insert into migrations (name) values (:name)", name=name)
        return True
