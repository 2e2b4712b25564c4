"""Changes to users since a cursor, erasures included, in commit order.

A position in this order is the pair (changed, user_id) of a row of `users` or `erased`. process-data takes `changed`
from a counter that it keeps locked until it commits, and commits all changes with the same number together. So once a
position has been returned, no change is committed at a lower one. A user who changes again moves to the end. A client
that follows the cursors therefore misses nothing.

Another database has another order, and so has one that was restored. A cursor therefore also identifies its database,
by values that differ
- in another cluster (`system_identifier`),
- after a failover or a point-in-time recovery (the timeline; until the first checkpoint on a new one, only
  `min_recovery_end_timeline` has it),
- in a copy of the database (its OID),
- after the restore of a dump, and also after `vacuum full` (the filenodes of `users` and `outputs`).

After the restore of a disk snapshot all of them may be the same, so `vacuum full outputs` has to be run then (see
infra/README.md).
"""

from dataclasses import dataclass

from .formats import FEED_FORMATS, Format
from .negotiation import format_parameter, negotiate
from .paging import AFTER, MAX_LIMIT, decode_cursor, encode_cursor, invalid_cursor, limit_parameter
from .parameters import parse_parameters
from .shared.api import ApiError, Event
from .shared.storage.connection import Connection
from .shared.user_ids import is_user_id

PARAMETERS = {"limit": limit_parameter(MAX_LIMIT), "after": AFTER, "format": format_parameter(FEED_FORMATS)}

_CURSOR_KIND = "changes"

_READ = """
with page as materialized (
    (
        select
            changed, user_id,
            (
                select row_to_json(person)::text
                from (select id, user_id, first_name, last_name, birthdate, birthts, img_path) as person
            ) as line
        from users
        where (changed, user_id) > (cast(:number as bigint), cast(:user_id as text))
        order by changed, user_id
        limit {limit}
    ) union all (
        select changed, user_id, json_build_object('user_id', user_id, 'deleted', true)::text
        from erased
        where (changed, user_id) > (cast(:number as bigint), cast(:user_id as text))
        order by changed, user_id
        limit {limit}
    )
    order by changed, user_id
    limit {limit}
), last as (
    select changed, user_id from page order by changed desc, user_id desc limit 1
)
select
    (
        select concat_ws(
            '-', system_identifier, greatest(timeline_id, min_recovery_end_timeline), pg_database.oid,
            pg_relation_filenode('users'), pg_relation_filenode('outputs')
        )
        from pg_control_recovery(), pg_control_checkpoint(), pg_control_system(), pg_database
        where datname = current_database()
    ),
    (select changed from outputs where object = 'output.csv'),
    (select string_agg(line, E'\\n' order by changed, user_id) from page),
    (select changed from last),
    (select user_id from last)
"""


@dataclass(frozen=True)
class Cursor:
    """A position in the order of changes; `number` is the value of `changed`.

    `database` is None for the beginning, which is the same in every database.
    """

    database: str | None = None
    number: int = 0
    user_id: str = ""

    def __str__(self) -> str:
        return encode_cursor([_CURSOR_KIND, self.database, self.number, self.user_id])


@dataclass(frozen=True)
class ChangesRequest:
    """A parsed request for at most `limit` changes."""

    limit: int
    after: Cursor
    format: Format


@dataclass(frozen=True)
class ChangesPage:
    """Changes as whole lines, empty if there are none, and the cursor of the next page."""

    lines: bytes
    cursor: Cursor


def parse_changes_request(event: Event) -> ChangesRequest:
    """Parse a request for changes. Raises ApiError if it is invalid."""
    values = parse_parameters(PARAMETERS, event.query)
    after = Cursor() if values["after"] is None else _parse_cursor(values["after"])
    return ChangesRequest(
        values["limit"], after, values["format"] or negotiate(event.headers.get("Accept"), FEED_FORMATS)
    )


def read_changes(connection: Connection, request: ChangesRequest) -> ChangesPage:
    """Read a page in one statement, and so from one snapshot.

    Raises ApiError 410 if the cursor belongs to another database, or to this one before a restore.
    """
    after = request.after
    [[database, latest, lines, number, user_id]] = connection.run_prepared(
        _READ.format(limit=request.limit), number=after.number, user_id=after.user_id
    )
    if after.database not in (None, database) or after.number > latest:
        message = "the database was replaced or restored: start again with an empty copy and without `after`"
        raise ApiError(410, "cursor_expired", message)
    if lines is None:
        return ChangesPage(b"", Cursor(database, after.number, after.user_id))
    return ChangesPage(f"{lines}\n".encode(), Cursor(database, number, user_id))


def _parse_cursor(text: str) -> Cursor:
    kind, database, number, user_id = decode_cursor(text, length=4)
    is_valid = kind == _CURSOR_KIND and isinstance(database, str) and type(number) is int and 0 <= number < 2**63
    if not is_valid or not isinstance(user_id, str) or (user_id and not is_user_id(user_id)):
        raise invalid_cursor()
    return Cursor(database, number, user_id)
