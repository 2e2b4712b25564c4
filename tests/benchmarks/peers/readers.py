"""Three ways to read the same users: query-data, Datasette with a SQLite file, and psql."""

import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import urllib3

from tests.benchmarks.measure import Psql, request_time, seconds
from tests.replica import query_replica
from tests.stack import Stack

COLUMNS = "user_id, first_name, last_name, birthts, img_path"
LOOKUP = "000000007"


class Reader(Protocol):
    """A reader. Its methods return the seconds for a page of 100 by date of birth, one user, and all users as CSV."""

    @property
    def name(self) -> str: ...

    def page(self) -> float: ...

    def lookup(self) -> float: ...

    def download(self) -> float: ...


@dataclass(frozen=True)
class HttpReader:
    """A server with its URLs for a page of 100, one user, and all users as CSV.

    The times of pages and lookups are medians of `requests` requests.
    """

    name: str
    page_url: str
    lookup_url: str
    download_url: str
    requests: int

    def page(self) -> float:
        return request_time(self.page_url, self.requests)

    def lookup(self) -> float:
        return request_time(self.lookup_url, self.requests)

    def download(self) -> float:
        command = ["curl", "--silent", "--fail", "--output", "/dev/null", self.download_url]
        return seconds(lambda: subprocess.run(command, check=True))


@dataclass(frozen=True)
class PsqlReader:
    """PostgreSQL without HTTP. psql itself times pages and lookups, in one session.

    The time of a download includes the start of psql. The rows are not sorted.
    """

    psql: Psql
    requests: int
    name: str = "psql"

    def page(self) -> float:
        sql = f"select {COLUMNS} from users order by birthts, user_id limit 100"
        return self.psql.milliseconds(sql, self.requests) / 1000

    def lookup(self) -> float:
        return self.psql.milliseconds(f"select {COLUMNS} from users where user_id = '{LOOKUP}'", self.requests) / 1000

    def download(self) -> float:
        sql = f"copy (select {COLUMNS} from users) to stdout (format csv, header);\n"
        return seconds(lambda: self.psql.run(f"\\o /dev/null\n{sql}"))


@contextmanager
def readers(stack: Stack, python: Path, requests: int) -> Iterator[list[Reader]]:
    """Yield all readers of the stored users. `python` is the interpreter of the peers' environment."""
    with ExitStack() as exits:
        directory = Path(exits.enter_context(TemporaryDirectory()))
        function_url = exits.enter_context(query_replica(stack)).url
        datasette_url = exits.enter_context(_datasette(python, _sqlite(stack, directory)))
        yield [
            HttpReader(
                "Rollcall",
                f"{function_url}/?limit=100&sort=birthdate",
                f"{function_url}/?user_id={LOOKUP}",
                f"{function_url}/?format=csv",
                requests,
            ),
            HttpReader(
                "Datasette",
                f"{datasette_url}.json?_shape=array&_size=100&_sort=birthts",
                f"{datasette_url}/{LOOKUP}.json?_shape=array",
                f"{datasette_url}.csv?_stream=on",
                requests,
            ),
            PsqlReader(Psql(stack.query_settings), requests),
        ]


def _sqlite(stack: Stack, directory: Path) -> Path:
    path = directory / "people.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "create table users (user_id text primary key, first_name text, last_name text, birthts int, img_path text)"
        )
        database.executemany("insert into users values (?, ?, ?, ?, ?)", stack.sql(f"select {COLUMNS} from users"))
        database.execute("create index users_birthts on users (birthts, user_id)")
    return path


@contextmanager
def _datasette(python: Path, database: Path) -> Iterator[str]:
    """Serve the database with Datasette. Yield the URL of the table."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    no_size_limit = ["--setting", "max_csv_mb", "0"]
    command = [
        str(python.with_name("datasette")),
        "serve",
        "--port",
        str(port),
        *no_size_limit,
        "--immutable",
        str(database),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}/-/versions.json", process)
            yield f"http://127.0.0.1:{port}/people/users"
        finally:
            process.terminate()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(urllib3.exceptions.HTTPError):
            urllib3.request("GET", url, retries=False)
            return
        time.sleep(0.05)
    raise RuntimeError("Datasette does not respond")
