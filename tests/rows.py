"""Reads the tables and output.csv."""

from tests.stack import Stack

NEW_SECOND = 1.1  # seconds to wait for a later Last-Modified, which is in whole seconds

COLUMNS = ["user_id", "first_name", "last_name", "birthts", "img_path"]


def rows(stack: Stack, table: str = "users", column: str = "user_id") -> list[str]:
    """Return the sorted values of a column."""
    return [value for (value,) in stack.sql(f"select {column} from {table} order by {column}")]


def snapshot(stack: Stack) -> list[list[object]]:
    """Return all rows of `users` and `rejected` with their transaction ids, which every write changes."""
    return [
        row
        for table, key in (("users", "user_id"), ("rejected", "object"))
        for row in stack.sql(f"select *, xmin::text from {table} order by {key}")
    ]


def starts(stack: Stack) -> list[str]:
    """Return the start of each segment."""
    return rows(stack, "segments", "start")


def people(stack: Stack) -> list[dict[str, str]]:
    """Return the rows of `users` in the form of output.csv."""
    table = stack.sql(f"select {', '.join(COLUMNS)} from users order by user_id")
    texts = [["" if value is None else str(value) for value in row] for row in table]
    return [dict(zip(COLUMNS, row, strict=True)) for row in texts]


def output(stack: Stack) -> list[dict[str, str]]:
    """Return the rows of output.csv."""
    return stack.bucket.read_rows("output.csv")


def exported(stack: Stack) -> list[str]:
    """Return the user_ids in output.csv."""
    return [row["user_id"] for row in output(stack)]
