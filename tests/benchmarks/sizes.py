"""The cost of a run by bucket size: wall-clock and CPU seconds, and the exponent of their growth."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from tests.benchmarks.cpu import postgres_cpu
from tests.benchmarks.fixtures import application, full_run, simulated
from tests.benchmarks.measure import SIMULATOR, Measurements, Row
from tests.stack import Stack

SIZES = (10_000, 30_000, 100_000, 300_000)


@dataclass(frozen=True)
class Cost:
    """The cost of a run in seconds. `postgres_cpu` is None if unavailable."""

    wall: float
    process_cpu: float
    postgres_cpu: float | None


def cost_by_size(stack: Stack, rounds: int = 3, sizes: Sequence[int] = SIZES) -> list[Row]:
    """Measure a first load and unchanged re-runs of buckets with `sizes` keys, two thirds of them CSVs.

    The largest bucket has half as many rounds as the others, rounded down, but at least one.
    """
    loads: dict[int, list[Cost]] = {size: [] for size in sizes}
    reruns: dict[int, list[Cost]] = {size: [] for size in sizes}
    for size in sizes:
        photos = size // 3
        people = size - photos
        with simulated(stack, people, photos) as (_, settings), application(settings) as app:

            def load(added: int = people) -> None:
                assert full_run(app)["added"] == added

            def rerun(unchanged: int = people) -> None:
                assert full_run(app)["unchanged"] == unchanged

            for _ in range(rounds if size < max(sizes) else max(1, rounds // 2)):
                stack.reset_tables()
                loads[size].append(_cost(stack, load))
                reruns[size] += [_cost(stack, rerun) for _ in range(3)]
    _print("first load", loads)
    _print("unchanged re-run", reruns)
    return [row for work, costs in (("first load", loads), ("unchanged re-run", reruns)) for row in _rows(work, costs)]


def _rows(work: str, costs: dict[int, list[Cost]]) -> list[Row]:
    title = f"{work}, {min(costs):,} to {max(costs):,} keys: exponent of"
    details = {str(size): [asdict(cost) for cost in by_run] for size, by_run in costs.items()}
    wall = exponent({size: statistics.median(cost.wall for cost in by_run) for size, by_run in costs.items()})
    cpu = exponent({size: statistics.median(_total_cpu(cost) for cost in by_run) for size, by_run in costs.items()})
    return [
        Row("sizes", f"{title} seconds", SIMULATOR, Measurements((wall,), ""), None, 1.05, details=details),
        Row("sizes", f"{title} CPU seconds", SIMULATOR, Measurements((cpu,), ""), None, 1.05),
    ]


def exponent(times: dict[int, float]) -> float:
    """Return the slope of the regression line through the logarithms of sizes and times."""
    logarithms = [(math.log(size), math.log(time)) for size, time in times.items()]
    return statistics.linear_regression(*zip(*logarithms, strict=True)).slope


def _total_cpu(cost: Cost) -> float:
    return cost.process_cpu + (cost.postgres_cpu or 0)


def _print(work: str, costs: dict[int, list[Cost]]) -> None:
    title = f"{work} ({SIMULATOR}, no latency)"
    print(f"\n{title:<44} {'seconds':>22} {'µs per key':>11} {'CPU':>8} {'PostgreSQL':>11}")
    for size, by_run in costs.items():
        wall = Measurements(tuple(cost.wall for cost in by_run), "s")
        cpu = statistics.median(cost.process_cpu for cost in by_run)
        postgres = [cost.postgres_cpu for cost in by_run if cost.postgres_cpu is not None]
        postgres_text = f"{statistics.median(postgres):.2f} s" if postgres else ""
        per_key = 1e6 * wall.median / size
        print(f"{size:>12,} keys{'':27} {wall!s:>22} {per_key:>11.1f} {cpu:>6.2f} s {postgres_text:>11}", flush=True)
    print()


def _cost(stack: Stack, work: Callable[[], None]) -> Cost:
    postgres_before, process_before, wall_before = postgres_cpu(stack), time.process_time(), time.perf_counter()
    work()
    wall, process = time.perf_counter() - wall_before, time.process_time() - process_before
    postgres_after = postgres_cpu(stack)
    postgres = None if postgres_before is None or postgres_after is None else postgres_after - postgres_before
    return Cost(wall, process, postgres)
