"""The interface of systems that import a bucket into PostgreSQL."""

from typing import Protocol

from tests.stack import Stack

Person = tuple[str, str | None, str | None, int | None]
"""user_id, first_name, last_name, birthts"""


class Importer(Protocol):
    """`run` imports the bucket; it returns its duration in seconds, or raises the error that ended it."""

    name: str

    def reset(self) -> None:
        """Reset to the state before the first run; the objects stay."""

    def run(self) -> float: ...

    def people(self) -> list[Person]: ...

    def rejections(self) -> list[str]:
        """Return the messages about rejected files."""


def stored_people(stack: Stack, table: str, columns: set[str] | None = None) -> list[Person]:
    """Return the people in a table. With `columns`, the values of all other columns are None."""
    names = ("user_id", "first_name", "last_name", "birthts")
    expressions = ", ".join(name if columns is None or name in columns else "null" for name in names)
    return [(row[0], row[1], row[2], row[3]) for row in stack.sql(f"select {expressions} from {table} order by 1")]
