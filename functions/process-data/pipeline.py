"""One run, whatever triggered it: list → diff → fetch → parse → store → export."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from .diff import batches, compare
from .export import export
from .fetch import fetch_batches
from .listing import load_listing
from .parse import parse
from .request import Request
from .runs import recorded
from .settings import Settings
from .shared.storage.objects import Objects
from .shared.storage.records import Connection
from .shared.storage.schema import migrate
from .store import Stored, store

REJECTIONS_SHOWN = 100

_REJECTED = "select count(*) from rejected where starts_with(object, :prefix)"

_REJECTIONS = """
select object, line, code, message from rejected where starts_with(object, :prefix) order by object limit :limit
"""


class Stopwatch:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + perf_counter() - begun, 4)


def run(settings: Settings, objects: Objects, request: Request) -> dict[str, Any]:
    """Bring the roll up to date with the bucket; returns the answer to whoever asked."""
    with Connection(settings) as records:
        migrate(records)
        with recorded(records, request.trigger, request.call_id) as this:
            this.summary = _process(settings, objects, records, request.prefix)
    return {"status": "done", "run_id": this.id, "trigger": request.trigger, **this.summary}


def _process(settings: Settings, objects: Objects, records: Connection, prefix: str) -> dict[str, Any]:
    watch, total = Stopwatch(), Stored()
    with watch.stage("total"):
        with watch.stage("list"):
            seen = load_listing(objects, records, settings.source_bucket, prefix)
        with watch.stage("diff"):
            diff = compare(records, settings.source_bucket, prefix)
        taken = _take_in(settings, objects, records, watch, total)
        with watch.stage("export"):
            output = export(records, objects, settings.result_bucket)
    return {
        "listed": seen.listed,
        "added": total.added,
        "updated": total.updated,
        "unchanged": diff.unchanged + total.unchanged,
        "images_changed": diff.images_changed,
        "ignored": seen.ignored,
        "rejected": records.run(_REJECTED, prefix=prefix)[0][0],
        "rejections": _rejections(records, prefix),
        "remaining": diff.todo - taken,
        "output": asdict(output),
        "seconds": watch.seconds,
    }


def _take_in(settings: Settings, objects: Objects, records: Connection, watch: Stopwatch, total: Stored) -> int:
    """Fetch, parse and store what the diff found, batch by batch; returns how many objects that were."""
    taken = 0
    keys = batches(records, settings.batch_size)
    with closing(fetch_batches(objects, settings.source_bucket, keys, settings.fetch_threads)) as fetched:
        while True:
            with watch.stage("fetch"):
                batch = next(fetched, None)
            if batch is None:
                return taken
            with watch.stage("parse"):
                parsed = parse([answer for answer in batch if answer is not None], datetime.now(UTC))
            with watch.stage("store"):
                total.add(store(records, parsed))
            taken += len(batch)


def _rejections(records: Connection, prefix: str) -> list[dict[str, Any]]:
    rows = records.run(_REJECTIONS, prefix=prefix, limit=REJECTIONS_SHOWN)
    return [dict(zip(("object", "line", "code", "message"), row, strict=True)) for row in rows]
