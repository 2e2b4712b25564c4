"""The people that a request asks for, as PostgreSQL writes them."""

from collections.abc import Generator
from datetime import date

from .age import age_sql, latest_birthdate, with_march_date
from .filters import Filters
from .shared.storage.records import Connection, Pool

_COLUMNS = "id, user_id, first_name, last_name, birthdate, birthts, img_path"


def check(records: Connection) -> None:
    """Raise SchemaMissing, or whatever keeps the people from being read."""
    records.run(f"select {_COLUMNS} from users limit 0")  # noqa: S608 - a constant


def json_lines(pool: Pool, filters: Filters, today: date) -> Generator[bytes, None, None]:
    """An object a line, ordered by user_id; in chunks of whole lines.

    The connection is borrowed until the generator ends or is closed.
    """
    people = f"select {_COLUMNS} from users {_where(filters, today)} order by user_id"  # noqa: S608
    answer = f"select {_COLUMNS}, {age_sql(today)} as age from ({with_march_date(people)}) as dated"  # noqa: S608
    # JSON has no control characters, so nothing is quoted and each line stays as it is
    copy = f"copy (select row_to_json(answer) from ({answer}) as answer) to stdout"  # noqa: S608
    copy += r" (format csv, delimiter E'\x01', quote E'\x02')"
    with pool.connection() as records, records.copy_out(copy) as chunks:
        yield from chunks


def _where(filters: Filters, today: date) -> str:
    """COPY takes no parameters: what is written into the SQL are dates and digits, never a request's text."""
    conditions = []
    if filters.is_image_exists is not None:
        conditions.append(f"img_path is {'not ' if filters.is_image_exists else ''}null")
    if filters.min_age is not None:
        conditions.append(f"birthdate <= date '{latest_birthdate(today, at_least=filters.min_age)}'")
    if filters.max_age is not None:
        conditions.append(f"birthdate > date '{latest_birthdate(today, over=filters.max_age)}'")
    if filters.user_id:
        conditions.append(f"user_id = any('{{{','.join(filters.user_id)}}}')")
    return f"where {' and '.join(conditions)}" if conditions else ""
