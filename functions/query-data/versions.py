"""ETags: which state of the data an answer shows, found without reading the data."""

from hashlib import sha256
from typing import Literal

from werkzeug.http import parse_etags

from .shared.api import Event
from .shared.storage.records import Connection

Data = Literal["users", "rejected", "runs"]

# process-data adds to `changed` in every transaction that changes the data.
_STATES: dict[Data, str] = {
    "users": "(select changed from outputs where object = 'output.csv')",
    "rejected": "(select changed from outputs where object = 'rejected.csv')",
    "runs": "(select concat(max(id), ' ', max(finished_at)) from runs)",
}


def etag(records: Connection, data: tuple[Data, ...], *question: object) -> str:
    """The ETag, without quotes, of what answers this question about that data."""
    [state] = records.run(f"select {', '.join(_STATES[one] for one in data)}")
    return sha256(repr((state, question)).encode()).hexdigest()[:32]


def is_known(event: Event, etag: str) -> bool:
    """Whether the client has this state already, by its If-None-Match."""
    return parse_etags(event.headers.get("If-None-Match")).contains_weak(etag)
