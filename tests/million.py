"""A million people, made by PostgreSQL itself."""

from tests.stack import Stack

MILLION = 1_000_000

FILL = """
insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified)
select user_id, 'First ' || n % 5000, 'Łast ' || n % 20000, (n * 7919::bigint % 40000 - 20000) * 86400000 + n,
    case when n % 100 = 0 then 'src/' || user_id || '.png' end, 'etag', now()
from (select n, lpad(n::text, 9, '0') as user_id from generate_series(1, :people) n) as made
"""


def fill(stack: Stack, people: int = MILLION) -> None:
    stack.sql("truncate users restart identity")
    stack.sql(FILL, people=people)
    stack.sql("vacuum analyze users")


def user_ids(people: int = MILLION) -> list[str]:
    return [f"{n:09}" for n in range(1, people + 1)]
