"""ETags: which state of the data an answer shows, found without reading the data."""

from hashlib import sha256
from typing import Any, Literal

from werkzeug.http import parse_etags

from .shared.api import Event
from .shared.storage.records import Connection

Data = Literal["users", "rejected", "runs"]
State = list[Any]
"""What `state_sql` gave."""

States = dict[Data, str]
"""The states of several data."""

# process-data adds to `changed` in every transaction that changes the data. What was exported last tells another
# database, or one that was restored, from this one when both have counted as far.
_STATES: dict[Data, str] = {
    "users": "(select concat(changed, ' ', etag) from outputs where object = 'output.csv')",
    "rejected": "(select concat(changed, ' ', etag) from outputs where object = 'rejected.csv')",
    "runs": "(select concat(min(id), ' ', max(id), ' ', max(finished_at)) from runs)",
}


def state_sql(*data: Data) -> str:
    """SQL columns that change with the data."""
    return ", ".join(_STATES[one] for one in data)


def state(records: Connection, *data: Data) -> State:
    [state] = records.run(f"select {state_sql(*data)}")
    return state


def states(records: Connection) -> States:
    """The states of all data."""
    return dict(zip(_STATES, state(records, *_STATES), strict=True))


def etag(state: State, *question: object) -> str:
    """The ETag, without quotes, of what answers this question about the data in that state."""
    return sha256(repr((state, question)).encode()).hexdigest()[:32]


def is_known(event: Event, etag: str) -> bool:
    """Whether the client has this state already, by its If-None-Match."""
    return parse_etags(event.headers.get("If-None-Match")).contains_weak(etag)


def known(event: Event, records: Connection, data: Data, *question: object) -> str | None:
    """The ETag of this question's answer when the client has it already. Who says that they have none costs nothing."""
    if "If-None-Match" not in event.headers:
        return None
    tag = etag(state(records, data), *question)
    return tag if is_known(event, tag) else None
