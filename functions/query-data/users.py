"""Users that match a query, as lines in the query's format."""

from collections.abc import Generator
from datetime import date
from time import monotonic

from .age import MARCH_DATE, age_sql
from .application import Application
from .filters import Filters, conditions, where
from .paging import Page, read_page
from .query import Query
from .shared.storage.connection import Connection
from .shared.storage.sql import Bind, BindValues, literal

_INDEXED = {"user_id": {"is_image_exists"}, "birthdate": {"min_age", "max_age"}, "last_name": set[str]()}
"""For each order, the filters that an index scan in this order can apply."""

_COLUMNS = "id, user_id, first_name, last_name, birthdate, birthts, img_path"


def check(connection: Connection) -> None:
    """Raise the error that reading users would raise, such as SchemaMissing."""
    connection.run(f"select {_COLUMNS} from users limit 0")  # noqa: S608 - a constant


def count(connection: Connection, filters: Filters, today: date) -> int:
    """Return the number of users that match the filters."""
    sql = f"select count(*) from users {where(conditions(filters, today))}"  # noqa: S608
    return int(connection.run(sql)[0][0])


def read_users(connection: Connection, query: Query, limit: int, today: date) -> Page:
    """Read a page of at most `limit` users."""
    parameters = BindValues() if _suits_generic_plan(query) else None
    rows = _select(query, today, f"limit {limit + 1}", parameters.bind if parameters else literal)
    return read_page(connection, "users", rows, query.format, query.order, limit, parameters)


def _suits_generic_plan(query: Query) -> bool:
    """Whether the best plan for a page is the same for all values: a lookup by user_id, or a scan of the order's index.

    With other filters the best plan depends on how many users they exclude.
    """
    active = query.filters.active
    return "user_id" in active or active <= _INDEXED[query.order.name.removeprefix("-")]


class Stream:
    """Yields matching users in chunks of whole lines, until all are read or `stream_deadline` seconds have passed.

    Afterwards `cursor` is the cursor of the last user read if more may remain, else None. Raises Unavailable if no
    user was read in time.
    """

    def __init__(self, application: Application, query: Query, today: date) -> None:
        self._application, self._query, self._today = application, query, today
        self._seconds = application.settings.stream_deadline
        self.cursor: str | None = None

    def __iter__(self) -> Generator[bytes, None, None]:
        # no line contains the delimiter, the quote or a line break, so COPY quotes nothing
        copy = f"copy (select {self._query.format.line} from ({_select(self._query, self._today)}) as result) to stdout"  # noqa: S608
        copy += r" (format csv, delimiter E'\x01', quote E'\x02')"
        deadline, chunk = monotonic() + self._seconds, b""
        with self._application.connection() as connection, connection.copy_out(copy, self._seconds) as chunks:
            try:
                for chunk in chunks:
                    yield chunk
                    if monotonic() >= deadline:
                        break
                else:
                    return
            except TimeoutError:
                if not chunk:  # there is no row to continue from
                    raise
        with self._application.connection() as connection:
            last = self._query.format.parse_line(chunk.rstrip(b"\n").rpartition(b"\n")[2].decode())
            self.cursor = self._query.order.cursor(connection, last)


def _select(query: Query, today: date, limit: str = "", bind: Bind = literal) -> str:
    clauses = conditions(query.filters, today, bind)
    if query.after:
        clauses.append(query.order.after_condition(query.after, bind))
    subquery = f"select {_COLUMNS}, {MARCH_DATE} from users {where(clauses)} {query.order.sql} {limit}"  # noqa: S608
    return f"select {_COLUMNS}, {age_sql(today)} as age from ({subquery}) as users"  # noqa: S608
