"""process-data against its ceilings, measured beside it in the same run: DESIGN.md's figures.

Each row is a ratio of medians. The ceilings: the same GETs alone with the same client and threads, the bare
pages of the same listing, and for memory the limit itself.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import process_data.handler  # noqa: F401 - it sets the process up
from process_data.deadline import Deadline
from process_data.keys import CONTENT_LIMIT
from process_data.pipeline import Run
from process_data.request import Request
from process_data.settings import Settings
from process_data.shared.storage.objects import Listed, Objects, Page
from process_data.shared.storage.settings import load

from tests.stack import Stack, running

PEOPLE = 10_000
PHOTOS = 5_000
CHANGES = 100
KEYS = 1_000_000
RUNS = 3


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, running(Path(directory) / "state") as stack:
        settings = load(Settings, stack.process_settings)
        objects = Objects(settings, connections=settings.fetch_threads)
        fill(stack)
        run(settings, objects)
        report("first load of 10,000 users", *first_load(stack, settings, objects), goal="≤ 1.2 × the GETs alone")
        report("unchanged re-run", *unchanged(settings, objects), goal="≤ 1.5 × the bare listing")
        report("100 events among 10,000 / among 100", *events(stack, settings, objects), goal="about 1")
    peak = peak_memory()
    print(f"{'peak memory, 1,000,000 keys':38} {peak:8.0f} MiB           goal ≤ 256 MiB")


def report(name: str, ours: float, ceiling: float, *, goal: str) -> None:
    print(f"{name:38} {ours:8.3f} s / {ceiling:.3f} s = {ours / ceiling:.2f}   goal {goal}", flush=True)


def run(settings: Settings, objects: Objects, *prefixes: str) -> dict[str, Any]:
    request = Request("event" if prefixes else "http", None, prefixes or ("",))
    return Run(settings, objects, request, Deadline(600, threading.Event())).answer()


def fill(stack: Stack) -> None:
    def put(number: int) -> None:
        stack.bucket.put_person(f"{number:05}", birthts=number)
        if number < PHOTOS:
            stack.bucket.put(f"{number:05}.png", b"photo")

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(put, range(PEOPLE)))


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turn(
    ours: Callable[[], object], ceiling: Callable[[], object], between: Callable[[], object]
) -> tuple[float, float]:
    """The medians of both, measured in turn so that a slow moment of the machine hits both."""
    times = []
    for _ in range(RUNS):
        between()
        times.append((seconds(ours), seconds(ceiling)))
    first, second = zip(*times, strict=True)
    return statistics.median(first), statistics.median(second)


def first_load(stack: Stack, settings: Settings, objects: Objects) -> tuple[float, float]:
    def gets() -> None:
        with ThreadPoolExecutor(settings.fetch_threads) as executor:
            keys = [f"{number:05}.csv" for number in range(PEOPLE)]
            list(executor.map(lambda key: objects.get("src", key, limit=CONTENT_LIMIT), keys))

    def load() -> None:
        assert run(settings, objects)["added"] == PEOPLE

    return in_turn(load, gets, between=lambda: stack.sql("truncate users"))


def unchanged(settings: Settings, objects: Objects) -> tuple[float, float]:
    def listing() -> None:
        more, token = True, ""
        while more:
            page = objects._client.ask_page("src", "", token or None)
            xml = page.read()
            page.release_conn()
            more = b"<IsTruncated>true" in xml
            token = xml.split(b"<NextContinuationToken>")[1].split(b"<")[0].decode() if more else ""

    def rerun() -> None:
        assert run(settings, objects)["unchanged"] == PEOPLE

    return in_turn(rerun, listing, between=lambda: None)


def events(stack: Stack, settings: Settings, objects: Objects) -> tuple[float, float]:
    """The same changes to the same people, while the roll holds 10,000 and while it holds them alone."""
    users = [f"{number:05}" for number in range(0, PEOPLE, PEOPLE // CHANGES)]

    def change() -> None:
        birthts = time.time_ns() // 1_000_000 - 10_000_000_000
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(lambda user: stack.bucket.put_person(user, birthts=birthts), users))

    def follow() -> None:
        for user in users:
            assert run(settings, objects, f"{user}.")["added"] == 0

    def measure() -> float:
        times = []
        for _ in range(RUNS):
            change()
            times.append(seconds(follow))
        return statistics.median(times)

    among_many = measure()
    stack.sql("delete from users where user_id <> all(:users)", users=users)
    return among_many, measure()


class Generated(Objects):
    """A listing of a million keys, without a bucket that holds them; photos alone, so that nothing is fetched."""

    def pages(self, bucket: str, prefix: str = "") -> Iterator[Page]:
        for first in range(0, KEYS, 1000):
            keys = (f"{number:09}.png" for number in range(first, first + 1000))
            yield Page([Listed(key, "0" * 32, 100) for key in keys], 0)


def peak_memory() -> float:
    """MiB that a process of its own needs at most for a million keys in the listing and as many users."""
    code = "from tests.packages import assemble_packages as a; a(); from tests.benchmarks.process import peak; peak()"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def peak() -> None:
    with tempfile.TemporaryDirectory() as directory, running(Path(directory) / "state") as stack:
        settings = load(Settings, stack.process_settings)
        run(settings, Objects(settings))
        stack.sql(
            "insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified) "
            "select lpad(n::text, 9, '0'), 'First', 'Last', n, '', now() from generate_series(0, 999999) n"
        )
        summary = run(settings, Generated(settings))
        assert (summary["listed"], summary["images_changed"], summary["output"]["rows"]) == (KEYS, KEYS, KEYS)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
