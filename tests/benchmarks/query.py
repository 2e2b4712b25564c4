"""query-data against its ceilings, measured beside it in the same run: medians, and a ratio for each.

python3 tests/benchmarks query
"""

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import urllib3

from tests.benchmarks.measure import MEBIBYTE, Psql, seconds
from tests.million import MILLION, fill
from tests.replica import Replica, first_answer, query_replica, replica
from tests.stack import Stack

ROUNDS, REQUESTS = 5, 300
PAGE = "limit=100&min_age=30&max_age=40&sort=birthdate"

BARE = """
import os
from flask import Response
def handle(event, context):
    return Response("ok")
"""

BARE_SELECT = """
import os
from threading import local
import pg8000.native
from flask import Response
names = ("user", "password", "host", "database")
sessions = local()
def session():
    if not hasattr(sessions, "one"):
        settings = {name: os.environ[f"postgres_{name}"] for name in names}
        sessions.one = pg8000.native.Connection(**settings, port=int(os.environ["postgres_port"]))
    return sessions.one
def handle(event, context):
    return Response(str(session().run("select 1")[0][0]))
"""


@dataclass
class Row:
    """What was measured, its ceiling beside it, and the ratio of the two that is the goal."""

    work: str
    own: str
    ceiling: str
    ratio: float
    goal: float
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal

    def __str__(self) -> str:
        goal = f"{'≥' if self.at_least else '≤'} {self.goal:g}"
        verdict = "ok" if self.reached else "MISSED"
        return f"{self.work:<52} {self.own:>10} {self.ceiling:>10} {self.ratio:>7.2f}  {goal:<7} {verdict}"


def alternating(own: Callable[[], float], ceiling: Callable[[], float], times: int) -> tuple[float, float]:
    """Medians of both, measured in turns, so that what else the machine does falls on both."""
    pairs = [(own(), ceiling()) for _ in range(times)]
    return statistics.median(one for one, _ in pairs), statistics.median(one for _, one in pairs)


def curl(url: str) -> None:
    subprocess.run(["curl", "--silent", "--fail", "--output", "/dev/null", url], check=True)


def the_stream(stack: Stack, running: Replica) -> Row:
    sql = f"copy (select row_to_json(one) from ({everyone()}) as one) to stdout"
    psql = Psql(stack.query_settings)
    script = f"\\o /dev/null\n{sql};\n"
    own, ceiling = alternating(
        lambda: seconds(lambda: curl(running.url)), lambda: seconds(lambda: psql.run(script)), ROUNDS
    )
    work = "1,000,000 users as JSON: rate against psql's COPY"
    return Row(work, f"{own:.2f} s", f"{ceiling:.2f} s", ceiling / own, 0.7, at_least=True)


def everyone() -> str:
    users, query, today = _question("")
    return str(users._people(query, today))


def _question(text: str) -> tuple[Any, Any, Any]:
    """query-data's own modules: they are importable once the packages are made."""
    users, queries = import_module("query_data.users"), import_module("query_data.query")
    pairs = [tuple(one.split("=")) for one in text.split("&") if one]
    multi = import_module("werkzeug.datastructures").MultiDict(pairs)
    return users, queries.read_query(multi, None), datetime.now(UTC).date()


def the_pages_sql(stack: Stack) -> Row:
    records = import_module("query_data.shared.storage.records")
    settings = import_module("query_data.shared.storage.settings")
    users, query, today = _question(PAGE)
    plain = f"select row_to_json(one) from ({users._people(query, today, 'limit 100')}) as one"
    psql = Psql(stack.query_settings)
    with records.Connection(settings.load(settings.RecordsSettings, stack.query_settings)) as connection:

        def own() -> float:
            times = [seconds(lambda: users.page(connection, query, 100, today)) for _ in range(REQUESTS)]
            return 1000 * statistics.median(times)

        mine, ceiling = alternating(own, lambda: psql.milliseconds(plain, REQUESTS), ROUNDS)
    return Row("a page of 100 of them: its SQL", f"{mine:.2f} ms", f"{ceiling:.2f} ms", mine / ceiling, 1.3)


def the_pages_request(running: Replica, bare: Replica) -> Row:
    def median(url: str) -> float:
        pool = urllib3.PoolManager()
        return 1000 * statistics.median(seconds(lambda: pool.request("GET", url)) for _ in range(REQUESTS))

    own, ceiling = alternating(lambda: median(f"{running.url}/?{PAGE}"), lambda: median(bare.url), ROUNDS)
    return Row("a page of 100 of them: the request", f"{own:.2f} ms", f"{ceiling:.2f} ms", own / ceiling, 1.5)


def the_start(stack: Stack, bare: Path) -> Row:
    def start(package: Path, settings: dict[str, str], path: str) -> float:
        begun = time.perf_counter()
        with replica(package, settings) as running:
            assert first_answer(running, path).status == 200
            return time.perf_counter() - begun

    package = stack.state / "build/query-data"
    own, ceiling = alternating(
        lambda: start(package, stack.query_settings, "/?limit=100"), lambda: start(bare, {}, "/"), ROUNDS
    )
    return Row("from start to the first answer", f"{own:.2f} s", f"{ceiling:.2f} s", own / ceiling, 1.5)


def the_memory(stack: Stack) -> Row:
    with query_replica(stack) as running:
        urls = [f"{running.url}/?format={form}" for form in ("json", "csv", "ndjson", "json")]
        curls = [subprocess.Popen(["curl", "--silent", "--fail", "--output", "/dev/null", url]) for url in urls]
        assert not any(one.wait() for one in curls)
        running.stop()
    peak = running.peak / MEBIBYTE
    return Row("peak memory, 4 × 1,000,000 users at once", f"{peak:.0f} MiB", "128 MiB", peak / 128, 1)


@contextmanager
def million() -> Iterator[Stack]:
    """A stack of its own with a million people."""
    directory = Path(tempfile.mkdtemp(prefix="rollcall-benchmark-"))
    stack = Stack(directory / "state")
    try:
        stack.cli("up", "--detach", "--port", "0", "--no-sample")
        stack.process()
        fill(stack)
        yield stack
    finally:
        stack.cli("down", check=False)
        shutil.rmtree(directory)


def package(directory: Path, name: str, source: str) -> Path:
    """A function of one module, laid out as the template wants it."""
    function = directory / name / "function"
    function.mkdir(parents=True)
    (function / "__init__.py").touch()
    (function / "handler.py").write_text(source, encoding="utf-8")
    return function.parent


def main() -> int:
    print(f"{'query-data, ' + format(MILLION, ',') + ' users':<52} {'own':>10} {'ceiling':>10} {'ratio':>7}  goal")
    missed = 0
    with million() as stack:
        bare, select = (package(stack.state, name, text) for name, text in (("bare", BARE), ("select", BARE_SELECT)))
        with query_replica(stack) as running, replica(select, stack.query_settings) as simple:
            first_answer(simple, "/")
            measures: list[Callable[[], Row]] = [
                lambda: the_stream(stack, running),
                lambda: the_pages_sql(stack),
                lambda: the_pages_request(running, simple),
                lambda: the_start(stack, bare),
                lambda: the_memory(stack),
            ]
            for measure in measures:
                row = measure()
                missed += not row.reached
                print(row, flush=True)
    return min(missed, 1)
