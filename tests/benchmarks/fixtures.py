"""Fixtures for the benchmarks of process-data: filled buckets and tables, a simulator, an application, a run."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from process_data.application import Application
from process_data.request import Request
from process_data.run import Run
from process_data.runs import Trigger
from process_data.settings import Settings
from process_data.shared.storage.settings import load

from tests.s3_simulator.client import Simulator, simulated_s3
from tests.stack import Stack

FIRST_ID = 1_000_000_000
LATENCY = 0.04  # seconds for a GET from a distant S3
NO_DEADLINE = "86400"  # seconds: no run takes that long

# Users with the simulator's ETags and photos, which a run finds unchanged. Every `gap`th user is left out.
_FILL = """
insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified)
select user_id, 'First ' || n % 5000, 'Łast ' || n % 20000, n,
    case when (n + 1) * photos / people > n * photos / people then 'src/' || user_id || '.png' end,
    'c' || lpad(user_id, 25, '0') || '000000', now()
from (
    select n, (:first_id + n)::text as user_id, cast(:photos as bigint) as photos, cast(:people as bigint) as people
    from generate_series(0::bigint, cast(:stored as bigint) - 1) as n
    where :gap = 0 or n % :gap <> 0
) as generated
"""


def fill_bucket(stack: Stack, people: int, photos: int) -> list[str]:
    """Replace the real server's objects with this many CSVs and photos. Return the keys of the CSVs."""
    stack.bucket.clear()
    user_ids = [f"{number:09}" for number in range(people)]
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(stack.bucket.put_person, user_ids))
        list(executor.map(lambda user_id: stack.bucket.put(f"{user_id}.png", b"photo"), user_ids[:photos]))
    return [f"{user_id}.csv" for user_id in user_ids]


def fill_users(stack: Stack, people: int, photos: int, *, gap: int = 0, stored: int | None = None) -> int:
    """Reset the tables. Insert the first `stored` users of a simulated bucket (default: all), except every `gap`th.

    Return the number of inserted users.
    """
    stack.reset_tables()
    stack.sql(_FILL, people=people, photos=photos, stored=stored or people, gap=gap, first_id=FIRST_ID)
    stack.sql("vacuum analyze users")
    return int(stack.sql("select count(*) from users")[0][0])


@contextmanager
def simulated(
    stack: Stack, people: int, photos: int, *, page_seconds: float = 0, get_seconds: float = 0
) -> Iterator[tuple[Simulator, dict[str, str]]]:
    """Yield a simulated bucket, and the settings for process-data to use it with the stack's PostgreSQL."""
    latencies = {"page_seconds": page_seconds, "get_seconds": get_seconds}
    with simulated_s3(people=people, photos=photos, first_id=FIRST_ID, **latencies) as simulator:
        yield simulator, stack.process_settings | {"s3_endpoint": simulator.endpoint, "s3_secure": "false"}


@contextmanager
def application(settings: Mapping[str, str]) -> Iterator[Application]:
    """Create process-data's application in this process, with these settings but no deadline."""
    app = Application(load(Settings, {**settings, "run_deadline": NO_DEADLINE}), threading.Event())
    try:
        yield app
    finally:
        app.close()


def run(app: Application, *, keys: Sequence[str] | None = None) -> dict[str, Any]:
    """Run once, over the whole bucket or, as after an event, for these keys. Return the summary.

    Assert that no file was unreadable or rejected.
    """
    request = Request(Trigger.HTTP) if keys is None else Request(Trigger.EVENT, keys=tuple(keys))
    summary = Run(app, request).execute()
    assert (summary["unreadable"], summary["rejected"]) == (0, 0), summary
    return summary


def full_run(app: Application) -> dict[str, Any]:
    """Run over the whole bucket and assert that the run is done."""
    summary = run(app)
    assert (summary["status"], summary["remaining"]) == ("done", 0), summary
    return summary
