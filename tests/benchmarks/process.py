"""process-data compared with its baselines.

    python3 tests/benchmarks process [NAME...] [--rounds N] [--json FILE]

Runs have the default settings but no deadline, unless a benchmark sets others.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from process_data.application import Application
from process_data.keys import CONTENT_LIMIT
from process_data.shared.process import set_up
from process_data.shared.storage.objects import CHUNK

from tests.benchmarks import measure, scaling, sizes
from tests.benchmarks.fixtures import (
    FIRST_ID,
    LATENCY,
    application,
    fill_bucket,
    fill_users,
    full_run,
    run,
    simulated,
)
from tests.benchmarks.measure import SERVER, SIMULATOR, Measurements, Psql, Row, alternate, seconds
from tests.million import MILLION, fill
from tests.stack import Stack, running

COPY = """copy (
    select user_id, first_name, last_name, birthts, img_path from users order by user_id
) to stdout (format csv, header)"""


def first_load(stack: Stack, rounds: int = 5, people: int = 10_000, photos: int = 5_000) -> list[Row]:
    keys = fill_bucket(stack, people, photos)
    with application(stack.process_settings) as app:

        def get_all() -> float:
            with ThreadPoolExecutor(app.settings.fetch_threads) as executor:
                return seconds(
                    lambda: list(executor.map(lambda key: app.objects.get("src", key, limit=CONTENT_LIMIT), keys))
                )

        load_time(stack, app, people)  # not measured: it connects to both servers
        own, baseline = alternate(rounds, lambda: load_time(stack, app, people), get_all, "s")
    work = f"first load of {people:,} users, {photos:,} photos / the GETs alone"
    return [Row("first-load", work, SERVER, own, baseline, 1.1)]


def load_time(stack: Stack, app: Application, people: int) -> float:
    stack.reset_tables()
    start = time.perf_counter()
    summary = full_run(app)
    elapsed = time.perf_counter() - start
    assert summary["added"] == people, summary
    return elapsed


def first_load_with_latency(stack: Stack, rounds: int = 3, people: int = 30_000) -> list[Row]:
    with simulated(stack, people, people // 2, get_seconds=LATENCY) as (_, settings), application(settings) as app:
        rates = tuple(people / load_time(stack, app, people) for _ in range(rounds))
        details = {"people": people, "limit_per_second": app.settings.fetch_threads / LATENCY}
    work = f"first load of {people:,} users, {1000 * LATENCY:.0f} ms per GET: users/s / the goal"
    own, goal = Measurements(rates, "/s"), Measurements((1200,), "/s")
    return [Row("latency", work, SIMULATOR, own, goal, 1, at_least=True, details=details)]


def unchanged(stack: Stack, rounds: int = 9, people: int = 10_000, photos: int = 5_000) -> list[Row]:
    fill_bucket(stack, people, photos)
    stack.reset_tables()
    with application(stack.process_settings) as app:
        full_run(app)
        own, baseline = alternate(rounds, lambda: rerun_time(app, people), lambda: listing_time(app), "s")
    work = f"unchanged re-run of {people:,} users, {people + photos:,} keys / the bare listing"
    return [Row("unchanged", work, SERVER, own, baseline, 1.5)]


def unchanged_with_latency(
    stack: Stack, rounds: int = 3, people: int = 200_000, photos: int = 100_000, page_seconds: float = 0.1
) -> list[Row]:
    with simulated(stack, people, photos) as (simulator, settings), application(settings) as app:
        fill_users(stack, people, photos)
        full_run(app)  # splits the segments
        simulator.set_latency(page_seconds, 0)
        own, baseline = alternate(rounds, lambda: rerun_time(app, people), lambda: listing_time(app), "s")
    work = f"unchanged re-run of {people + photos:,} keys, {1000 * page_seconds:.0f} ms per page / sequential listing"
    return [Row("slow-listing", work, SIMULATOR, own, baseline, 0.3)]


def rerun_time(app: Application, people: int) -> float:
    start = time.perf_counter()
    summary = full_run(app)
    elapsed = time.perf_counter() - start
    assert (summary["unchanged"], summary["output"]["written"]) == (people, False), summary
    return elapsed


def listing_time(app: Application) -> float:
    """Return the seconds for requesting all listing pages one after the other, without parsing their entries."""

    def list_all() -> None:
        token: str | None = None
        while True:
            xml: bytes = app.objects._client.get_listing("src", "", "", token, 1000)
            if b"<IsTruncated>true" not in xml:
                return
            token = xml.split(b"<NextContinuationToken>")[1].split(b"<")[0].decode()

    return seconds(list_all)


def events(stack: Stack, rounds: int = 3, people: int = MILLION, few: int = 10_000, number: int = 100) -> list[Row]:
    """Measure the same events, one at a time, among many users and among few.

    In both cases only the first event exports. An export of many users takes longer, so its time is added to the
    baseline.
    """
    indices = range(0, few, few // number)
    with simulated(stack, people, 0) as (simulator, settings), application(settings) as app:

        def send_events() -> float:
            for index in indices:
                simulator.change(index, 1)
            stack.sql("update outputs set changed = changed + 1, written_at = null")
            start = time.perf_counter()
            for index in indices:
                summary = run(app, keys=[f"{FIRST_ID + index}.csv"])
                assert (summary["listed"], summary["updated"]) == (1, 1), summary
                assert summary["output"]["written"] == (index == indices[0]), summary
                if index == indices[0]:
                    stack.sql("update outputs set seconds = 3600")  # slow exports are not repeated soon
            return time.perf_counter() - start

        def store_users(count: int) -> None:
            fill_users(stack, people, 0, stored=count)
            if count == people:  # with fewer, a run would add the rest
                full_run(app)  # splits the segments

        store_users(few)
        seconds_among_few = tuple(send_events() for _ in range(rounds))
        store_users(people)
        exports, seconds_among_many = [], []
        for _ in range(rounds):
            stack.sql("update outputs set changed = changed + 1, written_at = null")
            exports.append(run(app, keys=["0.csv"])["seconds"]["export"])  # an unknown user: the run only exports
            seconds_among_many.append(send_events())
    export_time = Measurements(tuple(exports), "s").median
    own = Measurements(tuple(seconds_among_many), "s")
    baseline = Measurements(tuple(elapsed + export_time for elapsed in seconds_among_few), "s")
    details = {"export_seconds": exports, "among_few_seconds": seconds_among_few}
    work = f"{number} events among {people:,} / among {few:,} plus an export"
    return [Row("events", work, SIMULATOR, own, baseline, 1.2, details=details)]


def export(stack: Stack, rounds: int = 5, people: int = MILLION) -> list[Row]:
    """Compare the export of output.csv with psql's COPY to a file and a PUT of that file by the same client."""
    psql = Psql(stack.process_settings)
    with (
        application(stack.process_settings) as app,
        application(stack.settings) as operator,  # because process-data may not write other keys
        tempfile.TemporaryDirectory() as directory,
    ):
        path = Path(directory) / "output.csv"
        stack.reset_tables()
        fill(stack, people)

        def export_time() -> float:
            stack.sql("update outputs set changed = changed + 1, written_at = null")
            summary = run(app, keys=["0.csv"])  # an unknown user: the run only exports
            assert (summary["output"]["rows"], summary["output"]["written"]) == (people, True), summary
            return float(summary["seconds"]["export"])

        def copy_and_put() -> None:
            psql.run(f"\\o {path}\n{COPY};\n")
            with path.open("rb") as file:
                operator.objects.put("res", "copy.csv", iter(lambda: file.read(CHUNK), b""), content_type="text/csv")

        own, baseline = alternate(rounds, export_time, lambda: seconds(copy_and_put), "s")
        assert stack.bucket.read("output.csv") == stack.bucket.read("copy.csv")
        details = {"bytes": path.stat().st_size}
    work = f"export of {people:,} users / psql's COPY CSV plus the PUT"
    return [Row("export", work, SERVER, own, baseline, 1.5, details=details)]


BENCHMARKS: dict[str, Callable[..., list[Row]]] = {
    "first-load": first_load,
    "latency": first_load_with_latency,
    "unchanged": unchanged,
    "slow-listing": unchanged_with_latency,
    "deadline": scaling.deadline,
    "replicas": scaling.replicas,
    "events": events,
    "export": export,
    "memory": scaling.memory,
    "sizes": sizes.cost_by_size,
}


def main(arguments: Sequence[str]) -> int:
    options = measure.parse_arguments("process", BENCHMARKS, arguments)
    set_up(threads=1, max_body=1)
    with tempfile.TemporaryDirectory() as directory, running(Path(directory) / "state") as stack:
        return measure.measure_rows(BENCHMARKS, options, stack)
