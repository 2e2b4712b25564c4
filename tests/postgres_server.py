"""A separate PostgreSQL server, which has only what initdb created."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local.config.accounts import PASSWORD_SECRETS, SUPERUSER
from infra.local.config.credentials import Credentials
from infra.local.runtime.ports import LOOPBACK
from infra.local.runtime.processes import Process
from infra.local.runtime.state import State
from infra.local.servers.postgres import Postgres
from tests.postgres import client_environment, run
from tests.stack import remove_home


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL server. `secrets` has the passwords of the superuser and of Rollcall's roles."""

    port: int
    secrets: Path
    log: Path

    def environment(self, user: str = SUPERUSER, database: str = "rollcall", password: str = "") -> dict[str, str]:
        """Return psql's variables for a login. The default password is the one in `secrets`, or else the user name."""
        secret = PASSWORD_SECRETS.get(user)
        return client_environment(
            {
                "postgres_host": LOOPBACK,
                "postgres_port": str(self.port),
                "postgres_database": database,
                "postgres_user": user,
                "postgres_password": password or ((self.secrets / secret).read_text() if secret else user),
            }
        )

    def sql(self, *statements: str, user: str = SUPERUSER, database: str = "rollcall") -> list[list[str]]:
        """Run statements in one session. Return the rows of all of them, as strings."""
        commands = [argument for statement in statements for argument in ("--command", statement)]
        result = run(
            ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", *commands],
            self.environment(user, database),
        )
        return [line.split("|") for line in result.stdout.splitlines()]


@contextmanager
def running_server(directory: Path) -> Iterator[PostgresServer]:
    state = State(directory / "state")
    state.create()
    credentials = Credentials(state.secrets)
    for secret in PASSWORD_SECRETS.values():
        credentials.get(secret)
    postgres = Postgres(state, credentials)
    postgres.prepare()
    log = directory / "postgres.log"
    process = Process("postgres", postgres, log, print, lambda: None)
    try:
        process.start()
        process.wait_ready()
        yield PostgresServer(postgres.port, state.secrets, log)
    finally:
        process.stop()
        remove_home(state.directory)
