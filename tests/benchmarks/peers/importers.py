"""What brings the same bucket into the same PostgreSQL: Rollcall, dlt, and a plain service that goes row by row."""

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Protocol

from process_data.application import Application
from process_data.request import Request
from process_data.run import Run
from process_data.runs import Trigger

from tests.benchmarks import fixtures
from tests.benchmarks.measure import seconds
from tests.stack import Stack, connected

Person = tuple[str, str | None, str | None, int | None]
"""user_id, first_name, last_name, birthts"""


class Importer(Protocol):
    """`run` returns its seconds, or raises what the run failed with."""

    name: str

    def reset(self) -> None:
        """Be as before the first run; the objects stay."""

    def run(self) -> float: ...

    def people(self) -> list[Person]: ...

    def rejections(self) -> list[str]:
        """Messages about files that were not taken."""


class Rollcall:
    name = "Rollcall"

    def __init__(self, stack: Stack, application: Application) -> None:
        self._stack, self._application = stack, application

    def reset(self) -> None:
        fixtures.reset(self._stack)

    def run(self) -> float:
        summaries = []
        elapsed = seconds(lambda: summaries.append(Run(self._application, Request(Trigger.HTTP)).execute()))
        assert summaries[0]["status"] == "done", summaries
        return elapsed

    def people(self) -> list[Person]:
        return _people(self._stack, "users")

    def rejections(self) -> list[str]:
        return [message for (message,) in self._stack.sql("select message from rejected")]


class Dlt:
    """The program stays, so that its start and imports are not in the seconds."""

    name = "dlt"

    def __init__(self, stack: Stack, process: subprocess.Popen[str]) -> None:
        self._stack, self._process, self._mode = stack, process, "fresh"

    def reset(self) -> None:
        self._mode = "fresh"
        self._stack.sql("drop schema if exists dlt cascade")
        self._stack.sql("drop schema if exists dlt_staging cascade")

    def run(self) -> float:
        requests, answers = _pipes(self._process)
        requests.write(f"{self._mode}\n")
        requests.flush()
        self._mode = "again"
        answer = json.loads(answers.readline())
        if answer["error"]:
            raise RuntimeError(answer["error"])
        return float(answer["seconds"])

    def people(self) -> list[Person]:
        """Columns that the files did not have are not in dlt's table either."""
        columns = (
            "select column_name from information_schema.columns where (table_schema, table_name) = ('dlt', 'people')"
        )
        found = {name for (name,) in self._stack.sql(columns)}
        return _people(self._stack, "dlt.people", found) if found else []

    def rejections(self) -> list[str]:
        return []


class RowAtATime:
    """For each object: read and rewrite the whole output, select the ids, insert or update the row."""

    name = "row at a time"
    output = "plain_output.csv"

    def __init__(self, stack: Stack) -> None:
        self._stack, self._bucket = stack, stack.bucket

    def reset(self) -> None:
        self._stack.sql("drop table if exists plain_people")
        self._stack.sql(
            "create table plain_people "
            "(user_id text primary key, first_name text, last_name text, birthts bigint, img_path text)"
        )
        self._bucket.remove(self.output, self._bucket.result)

    def run(self) -> float:
        return seconds(self._run)

    def _run(self) -> None:
        objects = list(self._bucket.client.list_objects(bucket_name=self._bucket.source))
        keys = {str(found.object_name) for found in objects}
        with connected(self._stack.settings) as connection:
            for key in sorted(key for key in keys if key.endswith(".csv")):
                person = self._read(key, keys)
                stored = {user_id for (user_id,) in connection.run("select user_id from plain_people")}
                statement = _UPDATE if person["user_id"] in stored else _INSERT
                connection.run(statement, **person)
                self._rewrite(person)

    def _read(self, key: str, keys: set[str]) -> dict[str, Any]:
        response = self._bucket.client.get_object(bucket_name=self._bucket.source, object_name=key)
        with response:
            row = next(csv.DictReader(io.StringIO(response.read().decode()), skipinitialspace=True))
        user_id = key.removesuffix(".csv")
        photo = f"{user_id}.png"
        return {
            "user_id": user_id,
            "first_name": row["first_name"],
            "last_name": row["last_name"],
            "birthts": int(row["birthts"]),
            "img_path": f"{self._bucket.source}/{photo}" if photo in keys else None,
        }

    def _rewrite(self, person: dict[str, Any]) -> None:
        rows: dict[str, dict[str, Any]] = {}
        if self._exists():
            rows = {row["user_id"]: row for row in self._bucket.read_rows(self.output)}
        rows[person["user_id"]] = person
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, person)
        writer.writeheader()
        writer.writerows(rows.values())
        body = text.getvalue().encode()
        self._bucket.client.put_object(
            bucket_name=self._bucket.result, object_name=self.output, data=io.BytesIO(body), length=len(body)
        )

    def _exists(self) -> bool:
        return any(self._bucket.client.list_objects(bucket_name=self._bucket.result, prefix=self.output))

    def people(self) -> list[Person]:
        return _people(self._stack, "plain_people")

    def rejections(self) -> list[str]:
        return []


_INSERT = "insert into plain_people values (:user_id, :first_name, :last_name, :birthts, :img_path)"
_UPDATE = """
update plain_people set first_name = :first_name, last_name = :last_name, birthts = :birthts, img_path = :img_path
where user_id = :user_id"""


@contextmanager
def importers(stack: Stack, python: Path) -> Iterator[list[Importer]]:
    """All of them; `python` is that of the peers' environment."""
    with ExitStack() as exits:
        application = exits.enter_context(fixtures.application(stack.process_settings))
        directory = exits.enter_context(TemporaryDirectory())
        settings = {"DLT_DATA_DIR": directory, "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}
        process = exits.enter_context(
            subprocess.Popen(
                [python, Path(__file__).with_name("pipeline.py")],
                env={**stack.settings, **settings},
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        yield [Rollcall(stack, application), Dlt(stack, process), RowAtATime(stack)]


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin and process.stdout
    return process.stdin, process.stdout


def _people(stack: Stack, table: str, columns: set[str] | None = None) -> list[Person]:
    names = ("user_id", "first_name", "last_name", "birthts")
    selected = ", ".join(name if columns is None or name in columns else "null" for name in names)
    return [(row[0], row[1], row[2], row[3]) for row in stack.sql(f"select {selected} from {table} order by 1")]
