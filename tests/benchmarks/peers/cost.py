"""The cost of a first load and of an unchanged re-run: requests to S3, bytes and CPU seconds."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import urllib3

from tests.benchmarks.cpu import postgres_cpu, process_cpu
from tests.benchmarks.fixtures import NO_DEADLINE, fill_bucket
from tests.replica import Replica, replica, wait_until_ready
from tests.s3_proxy import counting
from tests.stack import Stack

MILLION = 1_000_000


@dataclass(frozen=True)
class Cost:
    """The cost of a run over `objects` objects.

    `sent` and `received` are the bytes of request and response bodies. CPU seconds are None if unavailable.

    `str()` extrapolates everything to a million objects, even the fixed cost of a run, such as a few HEADs.
    Therefore measure with thousands of objects.
    """

    work: str
    objects: int
    requests: dict[str, int]
    sent: int
    received: int
    process_cpu: float | None
    postgres_cpu: float | None

    def __str__(self) -> str:
        scale = MILLION / self.objects
        requests = ", ".join(f"{scale * count:,.0f} {kind}" for kind, count in sorted(self.requests.items()))
        cpu = ", ".join(
            f"{name} {'?' if value is None else f'{scale * value:,.1f}'} s"
            for name, value in (("process-data", self.process_cpu), ("PostgreSQL", self.postgres_cpu))
        )
        megabytes = f"{scale * self.sent / 1e6:,.1f} MB to S3, {scale * self.received / 1e6:,.1f} MB from it"
        return f"{self.work}: {requests}; {megabytes}; CPU: {cpu}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def costs(stack: Stack, people: int) -> list[Cost]:
    """Measure a first load and a re-run by a separate replica of process-data. Half of the people have photos."""
    photos = people // 2
    fill_bucket(stack, people, photos)
    stack.reset_tables()
    with _counted_replica(stack) as (function, requests, traffic):
        results = []
        for work, counter in (("first load", "added"), ("unchanged re-run", "unchanged")):
            requests.clear()
            traffic.clear()
            before = process_cpu(function.process.pid), postgres_cpu(stack)
            summary = _post(function, "")
            after = process_cpu(function.process.pid), postgres_cpu(stack)
            assert summary[counter] == people, summary
            cpu = [
                None if end is None or start is None else end - start for start, end in zip(before, after, strict=True)
            ]
            results.append(Cost(work, people + photos, dict(requests), traffic["sent"], traffic["received"], *cpu))
    return results


@contextmanager
def _counted_replica(stack: Stack) -> Iterator[tuple[Replica, Counter[str], Counter[str]]]:
    """Yield a separate replica of process-data, the counts of its requests to S3 by kind, and the bytes of bodies."""
    traffic: Counter[str] = Counter()
    settings = stack.process_settings | {"run_deadline": NO_DEADLINE}
    with counting(settings["s3_endpoint"], traffic=traffic) as (endpoint, requests):
        package = stack.state / "build/process-data"
        with replica(package, settings | {"s3_endpoint": endpoint}) as function:
            wait_until_ready(function, "/_/health")
            _post(function, "?user_id=0")  # connects to both backends
            yield function, requests, traffic


def _post(function: Replica, query: str) -> dict[str, Any]:
    response = urllib3.request("POST", f"{function.url}/{query}", timeout=3600, retries=False)
    assert response.status == 200, response.data
    summary: dict[str, Any] = response.json()
    return summary
