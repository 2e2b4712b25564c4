"""The rows of `benchmarks process` that need separate processes: deadlines and continuations, replicas, memory."""

import time
from collections.abc import Mapping, Sequence

import urllib3

from tests.benchmarks.fixtures import LATENCY, NO_DEADLINE, fill_users, simulated
from tests.benchmarks.measure import SIMULATOR, Measurements, Row, alternate
from tests.benchmarks.replicas import CompletedRequest, ReplicaQueue, queued_replicas
from tests.memory import MEBIBYTE
from tests.replica import replica, wait_until_ready
from tests.stack import Stack


def deadline(
    stack: Stack,
    rounds: int = 2,
    people: int = 200_000,
    photos: int = 100_000,
    page_seconds: float = 0.01,
    get_seconds: float = 0.005,
    run_deadline: int = 2,
) -> list[Row]:
    """Compare a short deadline with no deadline, for one replica and its queue."""
    continuations: list[int] = []

    def load(queue: ReplicaQueue) -> float:
        stack.reset_tables()
        start = time.monotonic()
        completed = queue.run()
        continuations.append(len(completed) - 1)
        assert sum(request.summary["added"] for request in completed) == people
        assert stack.sql("select count(*) from users") == [[people]]
        return completed[-1].completed_at - start

    latencies = {"page_seconds": page_seconds, "get_seconds": get_seconds}
    with (
        simulated(stack, people, photos, **latencies) as (_, settings),
        queued_replicas(stack, settings, 1, run_deadline=str(run_deadline)) as limited,
        queued_replicas(stack, settings, 1, run_deadline=NO_DEADLINE) as unlimited,
    ):
        own, baseline = alternate(rounds, lambda: load(limited), lambda: load(unlimited), "s")
    work = f"first load of {people + photos:,} keys, run_deadline={run_deadline} / no deadline"
    details = {**latencies, "run_deadline": run_deadline, "continuations": continuations[::2]}  # with the deadline
    return [Row("deadline", work, SIMULATOR, own, baseline, 1.3, details=details)]


def replicas(
    stack: Stack,
    rounds: int = 2,
    people: int = 100_000,
    fetch_threads: Sequence[int | None] = (None, 16),
    number: int = 4,
    get_seconds: float = LATENCY,
    **overrides: str,
) -> list[Row]:
    """Compare `number` replicas with one, for each value in `fetch_threads`.

    None stands for the setting's default, with which CPUs are the bottleneck.
    """
    rows = []
    with simulated(stack, people, people // 2, get_seconds=get_seconds) as (_, settings):
        for threads in fetch_threads:
            values = overrides if threads is None else {**overrides, "fetch_threads": str(threads)}
            rows += _replicas(stack, settings, rounds, people, number, "defaults" if threads is None else "", values)
    return rows


def _replicas(
    stack: Stack, settings: Mapping[str, str], rounds: int, people: int, number: int, label: str, values: dict[str, str]
) -> list[Row]:
    shares: list[list[int]] = []

    def load(queue: ReplicaQueue) -> float:
        stack.reset_tables()
        start = time.monotonic()
        completed = queue.fan_out()
        assert stack.sql("select count(*) from users") == [[people]]
        if len(completed) > 1:
            shares.append(_shares(completed, people))
        return people / (max(request.completed_at for request in completed) - start)

    overrides = {"run_deadline": NO_DEADLINE, **values}
    with (
        queued_replicas(stack, settings, number, **overrides) as many,
        queued_replicas(stack, settings, 1, **overrides) as single,
    ):
        own, baseline = alternate(rounds, lambda: load(many), lambda: load(single), "/s")
    label = label or ", ".join(f"{name}={value}" for name, value in values.items())
    deviations = tuple(100 * max(abs(share * number / people - 1) for share in round_) for round_ in shares)
    details = {"people": people, "settings": values, "shares": shares}
    work = f"{number} replicas, {people:,} users, {label}"
    rate_work, deviation_work = f"{work}: users/s / that of one replica", f"{work}: deviation from even shares / 25 %"
    deviation, limit = Measurements(deviations, "%"), Measurements((25,), "%")
    return [
        Row("replicas", rate_work, SIMULATOR, own, baseline, 3, at_least=True, details=details),
        Row("replicas", deviation_work, SIMULATOR, deviation, limit, 1),
    ]


def _shares(completed: list[CompletedRequest], people: int) -> list[int]:
    """Return the number of users that each request added, ordered by replica."""
    shares = [request.summary["added"] for request in sorted(completed, key=lambda request: request.replica)]
    assert sum(shares) == people
    return shares


def memory(stack: Stack, rounds: int = 1, people: int = 666_667, photos: int = 333_333, gap: int = 10) -> list[Row]:
    """Measure the peak memory of a process that scans a bucket in which every `gap`th user is new."""
    peaks = []
    with simulated(stack, people, photos) as (_, settings):
        for _ in range(rounds):
            stored = fill_users(stack, people, photos, gap=gap)
            values = {**settings, "run_deadline": NO_DEADLINE}
            with replica(stack.state / "build/process-data", values) as running:
                wait_until_ready(running, "/_/health")
                response = urllib3.request("POST", running.url, timeout=3600, retries=False)
                running.stop()
            summary = response.json()
            expected = (people + photos, people - stored, stored)
            assert (summary["listed"], summary["added"], summary["unchanged"]) == expected, summary
            peaks.append(running.peak / MEBIBYTE)
    work = f"peak memory, {people + photos:,} keys, {people - stored:,} new users / 128 MiB"
    return [Row("memory", work, SIMULATOR, Measurements(tuple(peaks), "MiB"), Measurements((128,), "MiB"), 1)]
