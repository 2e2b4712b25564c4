"""ETags, computed from the states of the tables. A state is faster to read than the rows."""

from hashlib import sha256
from typing import Literal

from werkzeug.http import parse_etags

from .shared.api import Event
from .shared.storage.connection import Connection
from .shared.version import VERSION

TableName = Literal["users", "rejected", "runs"]
State = list[str]
"""The state of one or more tables: for each, the value of the column that `state_sql` selects."""

States = dict[TableName, str]
"""The state of each table, by name. `list(states.values())` is the State of all tables."""

# process-data increments `changed` in every transaction that changes what is served from the table. Another database,
# or a restored one, may have the same `changed`: `xmin`, the id of the row's last transaction, and `etag`, the ETag of
# the last export, tell them apart.
_STATE_SQL: dict[TableName, str] = {
    "users": "(select concat(changed, ' ', xmin, ' ', etag) from outputs where object = 'output.csv')",
    "rejected": "(select concat(changed, ' ', xmin, ' ', etag) from outputs where object = 'rejected.csv')",
    # max(finished_at) alone would miss a run that finished earlier than another but was committed later; the list of
    # unfinished runs changes whenever one starts or finishes; min(id) changes when the oldest runs are deleted
    "runs": """(
        select concat(
            min(id), ' ', max(id), ' ', max(finished_at), ' ',
            (select string_agg(id::text, ',' order by id) from runs where finished_at is null)
        )
        from runs
    )""",
}


def state_sql(*tables: TableName) -> str:
    """Return SQL columns, one for each table. A column's value changes whenever what is served from its table does."""
    return ", ".join(_STATE_SQL[table] for table in tables)


def read_state(connection: Connection, *tables: TableName) -> State:
    [state] = connection.run(f"select {state_sql(*tables)}")
    return state


def read_states(connection: Connection) -> States:
    """Read the states of all tables."""
    return dict(zip(_STATE_SQL, read_state(connection, *_STATE_SQL), strict=True))


def make_etag(state: State, *inputs: object) -> str:
    """Return the ETag, without quotes, of the response computed from this state of the data and these inputs.

    It has to be the same in all replicas of a version, so the reprs of the inputs must not depend on the process.
    """
    return sha256(repr((VERSION, state, inputs)).encode()).hexdigest()[:32]


def matches(event: Event, etag: str) -> bool:
    """Whether the request's If-None-Match contains the ETag."""
    return parse_etags(event.headers.get("If-None-Match")).contains_weak(etag)


def matching_etag(event: Event, connection: Connection, table: TableName, *inputs: object) -> str | None:
    """Return the current ETag if the request's If-None-Match contains it. Without that header nothing is read."""
    if "If-None-Match" not in event.headers:
        return None
    etag = make_etag(read_state(connection, table), *inputs)
    return etag if matches(event, etag) else None
