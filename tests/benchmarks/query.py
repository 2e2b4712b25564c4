"""query-data compared with its baselines, with a million users.

    python3 tests/benchmarks query [NAME...] [--rounds N] [--json FILE]

Request rates are those of one client on a persistent connection.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from tests.benchmarks import measure
from tests.benchmarks.measure import NO_S3, Measurements, Psql, Row, alternate, request_time, seconds
from tests.event import Event
from tests.memory import MEBIBYTE
from tests.million import MILLION, fill
from tests.replica import Replica, query_replica, replica, wait_until_ready
from tests.stack import Stack, running

REQUESTS = 300
PAGE = "limit=100&min_age=30&max_age=40&sort=birthdate"
LOOKUP = "user_id=000500000"

MINIMAL_HANDLER = """
from flask import Response
def handle(event, context):
    return Response("ok")
"""


@dataclass(frozen=True)
class Subject:
    """Two instances of the same server program: one runs query-data, the other a minimal handler."""

    stack: Stack
    people: int
    function: Replica
    minimal_function: Replica
    minimal_package: Path

    def request_time(self, path: str) -> float:
        """Return the median seconds for a request."""
        return request_time(f"{self.function.url}{path}", REQUESTS)

    def rate(self, path: str) -> float:
        """Return the requests per second."""
        return 1 / self.request_time(path)


def stream(subject: Subject, rounds: int = 5) -> list[Row]:
    sql = f"copy (select row_to_json(person) from ({_sql('')}) as person) to stdout"
    psql = Psql(subject.stack.query_settings)

    def own() -> float:
        return subject.people / seconds(lambda: _curl(subject.function.url))

    def baseline() -> float:
        return subject.people / seconds(lambda: psql.run(f"\\o /dev/null\n{sql};\n"))

    work = f"stream of {subject.people:,} users as JSON / psql's COPY"
    return [Row("stream", work, NO_S3, *alternate(rounds, own, baseline, "/s"), 0.9, at_least=True)]


def page(subject: Subject, rounds: int = 5) -> list[Row]:
    sql = f"select row_to_json(person) from ({_sql(PAGE, 'limit 100')}) as person"
    psql = Psql(subject.stack.query_settings)

    def minimal_and_psql() -> float:
        return 1000 * request_time(subject.minimal_function.url, REQUESTS) + psql.milliseconds(sql, REQUESTS)

    own, baseline = alternate(rounds, lambda: 1000 * subject.request_time(f"/?{PAGE}"), minimal_and_psql, "ms")
    work = "page of 100: request / with a minimal handler + psql's time for the query"
    return [Row("page", work, NO_S3, own, baseline, 1.5)]


def lookup(subject: Subject, rounds: int = 5) -> list[Row]:
    own, baseline = alternate(rounds, lambda: subject.rate(f"/?{LOOKUP}"), lambda: subject.rate(f"/?{PAGE}"), "/s")
    return [Row("lookup", "lookup of one user / page of 100", NO_S3, own, baseline, 1, at_least=True)]


def repeated(subject: Subject, rounds: int = 5) -> list[Row]:
    """Measure responses that are computed once for each state of the data."""
    rows = []
    for work, path in (("/stats", "/stats"), ("web page", "/?format=html"), ("count=1", "/?limit=100&count=1")):
        subject.rate(path)  # not measured: the first response has to be computed
        rates = tuple(subject.rate(path) for _ in range(rounds))
        goal = Measurements((300,), "/s")
        text = f"{work} of {subject.people:,} users, data unchanged / the goal"
        rows.append(Row("repeated", text, NO_S3, Measurements(rates, "/s"), goal, 1, at_least=True))
    return rows


def start(subject: Subject, rounds: int = 5) -> list[Row]:
    def time_to_first_response(package: Path, settings: dict[str, str], path: str) -> float:
        started_at = time.perf_counter()
        with replica(package, settings) as process:
            assert wait_until_ready(process, path).status == 200
            return time.perf_counter() - started_at

    settings, package = subject.stack.query_settings, subject.stack.state / "build/query-data"
    own, baseline = alternate(
        rounds,
        lambda: time_to_first_response(package, settings, "/?limit=100"),
        lambda: time_to_first_response(subject.minimal_package, {}, "/"),
        "s",
    )
    return [Row("start", "start to first response / with a minimal handler", NO_S3, own, baseline, 1.5)]


def memory(subject: Subject, rounds: int = 1) -> list[Row]:
    """Measure the peak memory of four concurrent streams, then sixteen other concurrent requests."""
    peaks = []
    for _ in range(rounds):
        with query_replica(subject.stack) as process:
            _run_concurrently([f"{process.url}/?format={name}" for name in ("json", "csv", "ndjson", "json")])
            paths = (
                f"/?{PAGE}",
                "/?limit=1000",
                "/stats",
                "/?format=html",
                "/changes",
                f"/?{LOOKUP}",
                "/runs",
                "/rejected",
            )
            _run_concurrently([f"{process.url}{path}" for path in paths * 2])
            process.stop()
        peaks.append(process.peak / MEBIBYTE)
    work = f"peak memory, 4 streams of {subject.people:,} users at once, then 16 other requests / the goal"
    return [Row("memory", work, NO_S3, Measurements(tuple(peaks), "MiB"), Measurements((64,), "MiB"), 1)]


def _run_concurrently(urls: Sequence[str]) -> None:
    with ThreadPoolExecutor(len(urls)) as executor:
        list(executor.map(_curl, urls))


def _curl(url: str) -> None:
    subprocess.run(["curl", "--silent", "--fail", "--output", "/dev/null", url], check=True)


def _sql(query: str, limit: str = "") -> str:
    """Return the SQL that selects the users that match a query."""
    users, queries = import_module("query_data.users"), import_module("query_data.query")
    return str(users._select(queries.parse_query(Event(f"/?{query}")), datetime.now(UTC).date(), limit))


BENCHMARKS: dict[str, Callable[..., list[Row]]] = {
    "stream": stream,
    "page": page,
    "lookup": lookup,
    "repeated": repeated,
    "start": start,
    "memory": memory,
}


@contextmanager
def running_subject(stack: Stack, people: int) -> Iterator[Subject]:
    """Fill the stack with this number of people. Run query-data on it, and the minimal handler."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as exits:
        function = Path(directory) / "function"
        function.mkdir()
        (function / "__init__.py").touch()
        (function / "handler.py").write_text(MINIMAL_HANDLER, encoding="utf-8")
        fill(stack, people)
        own, minimal = exits.enter_context(query_replica(stack)), exits.enter_context(replica(Path(directory), {}))
        wait_until_ready(minimal, "/")
        yield Subject(stack, people, own, minimal, Path(directory))


def main(arguments: Sequence[str]) -> int:
    options = measure.parse_arguments("query", BENCHMARKS, arguments)
    with (
        tempfile.TemporaryDirectory() as directory,
        running(Path(directory) / "state") as stack,
        running_subject(stack, MILLION) as subject,
    ):
        return measure.measure_rows(BENCHMARKS, options, subject)
