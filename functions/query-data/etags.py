"""ETags, derived from the state of the data without reading the data."""

from hashlib import sha256
from typing import Literal

from werkzeug.http import parse_etags

from .shared.api import Event
from .shared.storage.connection import Connection
from .shared.version import VERSION

TableName = Literal["users", "rejected", "runs"]
State = list[str]
"""The values of the columns of `state_sql`, one for each table."""

States = dict[TableName, str]
"""The same values by table."""

# process-data increments `changed` in every transaction that changes the table. The ETag of the last export
# distinguishes this database from another or a restored one with the same counter.
_STATES: dict[TableName, str] = {
    "users": "(select concat(changed, ' ', etag) from outputs where object = 'output.csv')",
    "rejected": "(select concat(changed, ' ', etag) from outputs where object = 'rejected.csv')",
    # runs may not be committed in the order of finished_at, but each commit changes the set of unfinished ids
    "runs": """(
        select concat(
            min(id), ' ', max(id), ' ', max(finished_at), ' ',
            (select string_agg(id::text, ',' order by id) from runs where finished_at is null)
        )
        from runs
    )""",
}


def state_sql(*tables: TableName) -> str:
    """SQL columns, one for each table, that change with it."""
    return ", ".join(_STATES[table] for table in tables)


def read_state(connection: Connection, *tables: TableName) -> State:
    [state] = connection.run(f"select {state_sql(*tables)}")
    return state


def read_states(connection: Connection) -> States:
    """The states of all tables."""
    return dict(zip(_STATES, read_state(connection, *_STATES), strict=True))


def make_etag(state: State, *query: object) -> str:
    """The ETag, without quotes, of the response to a query for data in this state.

    It is the same in all replicas of a version, so the reprs in `query` must not depend on the process.
    """
    return sha256(repr((VERSION, state, query)).encode()).hexdigest()[:32]


def matches(event: Event, etag: str) -> bool:
    """Whether the request's If-None-Match contains the ETag."""
    return parse_etags(event.headers.get("If-None-Match")).contains_weak(etag)


def matching_etag(event: Event, connection: Connection, table: TableName, *query: object) -> str | None:
    """The current ETag if the request's If-None-Match contains it. Without that header nothing is read."""
    if "If-None-Match" not in event.headers:
        return None
    etag = make_etag(read_state(connection, table), *query)
    return etag if matches(event, etag) else None
