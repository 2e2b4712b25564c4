"""Requests to query-data, and people inserted directly into the table `users`."""

from tests.stack import Response, Stack

_INSERT = """
insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified)
values (:user_id, :first, :last, :birthts, :img_path, 'etag', now())
"""
_INSERT_MANY = """
insert into users (user_id, first_name, last_name, birthts, csv_etag, csv_modified)
select lpad(n::text, 9, '0'), 'First ' || n, 'Last', n, 'etag', now() from generate_series(1, :count) n
"""
_DAY = 86_400_000  # milliseconds


def add(
    stack: Stack, user_id: str, first: str = "Ada", last: str = "Byron", born: int = 0, photo: bool = False
) -> None:
    """Insert a person. `born` is the birthdate in days since 1970-01-01."""
    img_path = f"src/{user_id}.png" if photo else None
    stack.sql(_INSERT, user_id=user_id, first=first, last=last, birthts=born * _DAY, img_path=img_path)


def add_many(stack: Stack, count: int) -> list[str]:
    """Insert people with user_ids of nine digits. Return the user_ids."""
    stack.sql(_INSERT_MANY, count=count)
    return [f"{n:09}" for n in range(1, count + 1)]


def mark_changed(stack: Stack) -> None:
    """Mark the data as changed, as process-data does."""
    stack.sql("update outputs set changed = changed + 1 where object = 'output.csv'")


def get(stack: Stack, query: str = "", **headers: str) -> Response:
    return stack.request("GET", f"/function/query-data{query}", b"", **headers)


def user_ids_in(response: Response) -> list[str]:
    assert response.status == 200, response.body
    return [person["user_id"] for person in response.json()["result"]]
