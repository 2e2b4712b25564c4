"""Separate PostgreSQL servers: one with only what initdb creates, and a promoted copy of a stack's server."""

import os
import subprocess
from collections.abc import Iterator, Mapping
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
from tests.stack import Stack, remove_home


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL server. `secrets` has the passwords of the superuser and of Rollcall's roles."""

    port: int
    secrets: Path
    log: Path

    def environment(self, user: str = SUPERUSER, database: str = "rollcall", password: str = "") -> dict[str, str]:
        """Return psql's environment for a login. The default password is that in `secrets`, or else the user name."""
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
    with _running(Postgres(state, credentials), state, credentials, directory) as server:
        yield server


@contextmanager
def promoted_copy(stack: Stack, directory: Path) -> Iterator[PostgresServer]:
    """Run a standby of the stack's server, promoted as after a failover.

    Its first checkpoint after the promotion takes minutes: it pauses after each of the thousands of pages of the
    table `ballast`.
    """
    state = State(directory / "state")
    state.create()
    credentials = Credentials(State(stack.state).secrets)
    with _running(_Standby(state, credentials, stack.settings), state, credentials, directory) as server:
        stack.sql("create table ballast as select from generate_series(1, 1000000)")
        [[position]] = stack.sql("select pg_current_wal_lsn()::text")
        is_replayed = f"select pg_last_wal_replay_lsn() >= '{position}'"
        stack.wait_until(lambda: server.sql(is_replayed, database="postgres") == [["t"]])
        server.sql("select pg_promote()", database="postgres")
        # only now: a standby would replay the drop, and discard the pages that the checkpoint has to write
        stack.sql("drop table ballast")
        yield server


class _Standby(Postgres):
    def __init__(self, state: State, credentials: Credentials, settings: Mapping[str, str]) -> None:
        super().__init__(state, credentials)
        self._settings = settings

    def _create_cluster(self) -> None:
        uid, gid = self._user or (None, None)
        self._data.mkdir(mode=0o700)
        if self._user:
            os.chown(self._data, *self._user)
        subprocess.run(
            [self._binary("pg_basebackup"), "--pgdata", self._data, "--checkpoint", "fast", "--write-recovery-conf"],
            cwd=self._home,
            env=client_environment(self._settings),
            user=uid,
            group=gid,
            extra_groups=[] if self._user else None,
            check=True,
        )
        with (self._data / "postgresql.conf").open("a", encoding="utf-8") as file:
            # checkpoints are spread over nearly an hour, and the background writer does not write their pages
            file.write("checkpoint_timeout = 1h\nbgwriter_lru_maxpages = 0\n")


@contextmanager
def _running(postgres: Postgres, state: State, credentials: Credentials, directory: Path) -> Iterator[PostgresServer]:
    log = directory / "postgres.log"
    process = Process("postgres", postgres, log, print, lambda: None)
    try:
        postgres.prepare()
        process.start()
        process.wait_ready()
        yield PostgresServer(postgres.port, credentials.directory, log)
    finally:
        process.stop()
        remove_home(state.directory)
