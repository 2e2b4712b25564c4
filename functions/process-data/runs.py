"""The record of every run: when, by what, with what result."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from .shared.storage.errors import StorageError
from .shared.storage.records import Connection

Trigger = Literal["cron", "http"]

_START = "insert into runs (trigger, call_id) values (:trigger, :call_id) returning id"
_DONE = "update runs set finished_at = now(), status = 'done', summary = :summary where id = :id"
_FAILED = "update runs set finished_at = now(), status = 'failed', error = :error where id = :id"


@dataclass
class Run:
    id: int
    summary: Mapping[str, Any] | None = None


@contextmanager
def recorded(records: Connection, trigger: Trigger, call_id: str | None) -> Iterator[Run]:
    """Record a run that begins now; the body sets its summary, and what it raises is kept as the error."""
    run = Run(records.run(_START, trigger=trigger, call_id=call_id)[0][0])
    try:
        yield run
    except Exception as error:
        with suppress(StorageError):  # the session may be what failed
            records.run(_FAILED, error=f"{type(error).__name__}: {error}", id=run.id)
        raise
    records.run(_DONE, summary=json.dumps(run.summary), id=run.id)
