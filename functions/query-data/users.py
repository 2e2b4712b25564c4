"""The people that a query asks for, as PostgreSQL writes them: a line each, in the query's format."""

from collections.abc import Generator
from datetime import date
from time import monotonic

from .age import MARCH_DATE, age_sql
from .filters import Filters, conditions, where
from .paging import Page, read_page
from .query import Query
from .shared.storage.records import Bind, Connection, Parameters, Pool, literal

_SERVED = {"user_id": {"is_image_exists"}, "birthdate": {"min_age", "max_age"}, "last_name": set[str]()}
"""The filters that the index of an order serves as well."""

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
    parameters = Parameters() if _has_one_plan(query) else None
    rows = _people(query, today, f"limit {limit + 1}", parameters.bind if parameters else literal)
    return read_page(records, "users", rows, query.format, query.order, limit, parameters)


def _has_one_plan(query: Query) -> bool:
    """Whether a page has the same best plan for all values: the users' or the order's index is read from a place on.

    With other filters it depends on how many people there are in between.
    """
    given = query.filters.given
    return "user_id" in given or given <= _SERVED[query.order.name.removeprefix("-")]


class Stream:
    """Everyone, in chunks of whole lines, until `seconds` have passed.

    `cursor` is where the rest begins after that; it is None while there is time, and at the end.
    """

    def __init__(self, pool: Pool, query: Query, today: date, seconds: float) -> None:
        self._pool, self._query, self._today = pool, query, today
        self._deadline = monotonic() + seconds
        self.cursor: str | None = None

    def __iter__(self) -> Generator[bytes, None, None]:
        # no line has a control character, so nothing is quoted and each one stays as it is
        copy = f"copy (select {self._query.format.line} from ({_people(self._query, self._today)}) as one) to stdout"  # noqa: S608
        copy += r" (format csv, delimiter E'\x01', quote E'\x02')"
        with self._pool.connection() as connection, connection.copy_out(copy) as chunks:
            for chunk in chunks:
                yield chunk
                if monotonic() >= self._deadline:
                    break
            else:
                return
        with self._pool.connection() as connection:
            last = self._query.format.parse_line(chunk.rstrip(b"\n").rpartition(b"\n")[2].decode())
            self.cursor = self._query.order.cursor(connection, last)


def _people(query: Query, today: date, limit: str = "", bind: Bind = literal) -> str:
    found = conditions(query.filters, today, bind)
    if query.after:
        found.append(query.order.after_condition(query.after, bind))
    people = f"select {_COLUMNS}, {MARCH_DATE} from users {where(found)} {query.order.sql} {limit}"  # noqa: S608
    return f"select {_COLUMNS}, {age_sql(today)} as age from ({people}) as people"  # noqa: S608
