"""Importers of the same bucket into the same PostgreSQL: Rollcall, dlt, and a row-at-a-time service."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from process_data.application import Application
from process_data.request import Request
from process_data.run import Run
from process_data.runs import Trigger

from tests.benchmarks import fixtures
from tests.benchmarks.measure import seconds
from tests.benchmarks.peers.importer import Importer, Person, stored_people
from tests.benchmarks.peers.row_at_a_time import RowAtATime
from tests.stack import Stack


class Rollcall:
    name = "Rollcall"

    def __init__(self, stack: Stack, application: Application) -> None:
        self._stack, self._application = stack, application

    def reset(self) -> None:
        self._stack.reset_tables()

    def run(self) -> float:
        summaries = []
        elapsed = seconds(lambda: summaries.append(Run(self._application, Request(Trigger.HTTP)).execute()))
        assert summaries[0]["status"] == "done", summaries
        return elapsed

    def people(self) -> list[Person]:
        return stored_people(self._stack, "users")

    def rejections(self) -> list[str]:
        return [message for (message,) in self._stack.sql("select message from rejected")]


class Dlt:
    """dlt in a long-running process, so that starting Python and importing dlt are not measured."""

    name = "dlt"

    def __init__(self, stack: Stack, process: subprocess.Popen[str]) -> None:
        self._stack, self._process = stack, process

    def reset(self) -> None:
        self._stack.sql("drop schema if exists dlt cascade")
        self._stack.sql("drop schema if exists dlt_staging cascade")
        self._send("reset")

    def run(self) -> float:
        return self._send("run")

    def _send(self, command: str) -> float:
        """Send a command to pipeline.py, and return the seconds that it took."""
        requests, responses = _pipes(self._process)
        requests.write(f"{command}\n")
        requests.flush()
        result = json.loads(responses.readline())
        if result["error"]:
            raise RuntimeError(result["error"])
        return float(result["seconds"])

    def people(self) -> list[Person]:
        """Return the people. dlt's table has only the columns that the files had."""
        query = (
            "select column_name from information_schema.columns where (table_schema, table_name) = ('dlt', 'people')"
        )
        columns = {name for (name,) in self._stack.sql(query)}
        return stored_people(self._stack, "dlt.people", columns) if columns else []

    def rejections(self) -> list[str]:
        return []


@contextmanager
def importers(stack: Stack, python: Path) -> Iterator[list[Importer]]:
    """Yield all importers. `python` is the interpreter of the peers' environment."""
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
