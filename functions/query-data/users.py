"""The people that a query asks for, as PostgreSQL writes them: a line each, in the query's format."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from .age import MARCH_DATE, age_sql
from .filters import Filters, conditions, where
from .paging import Page, read_page
from .query import Query
from .shared.storage.records import Connection, Pool

_COLUMNS = "id, user_id, first_name, last_name, birthdate, birthts, img_path"


def check(records: Connection) -> None:
    """Raise SchemaMissing, or whatever keeps the people from being read."""
    records.run(f"select {_COLUMNS} from users limit 0")  # noqa: S608 - a constant


def count(records: Connection, filters: Filters, today: date) -> int:
    """How many people the filters let through."""
    sql = f"select count(*) from users {where(conditions(filters, today))}"  # noqa: S608
    return int(records.run(sql)[0][0])


def page(records: Connection, query: Query, limit: int, today: date) -> Page:
    """At most `limit` people."""
    rows = _people(query, today, f"limit {limit + 1}")
    return read_page(records, "users", rows, query.format.line, query.order, limit)


@contextmanager
def stream(pool: Pool, query: Query, today: date) -> Iterator[Iterator[bytes]]:
    """Everyone, in chunks of whole lines. The connection is borrowed until the end."""
    # no line has a control character, so nothing is quoted and each one stays as it is
    copy = f"copy (select {query.format.line} from ({_people(query, today)}) as one) to stdout"  # noqa: S608
    copy += r" (format csv, delimiter E'\x01', quote E'\x02')"
    with pool.connection() as records, records.copy_out(copy) as chunks:
        yield chunks


def _people(query: Query, today: date, limit: str = "") -> str:
    found = conditions(query.filters, today) + ([query.behind] if query.behind else [])
    people = f"select {_COLUMNS}, {MARCH_DATE} from users {where(found)} {query.order.sql} {limit}"  # noqa: S608
    return f"select {_COLUMNS}, {age_sql(today)} as age from ({people}) as people"  # noqa: S608
