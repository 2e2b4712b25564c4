"""What brings a bucket into PostgreSQL, as the comparison uses it."""

from typing import Protocol

from tests.stack import Stack

Person = tuple[str, str | None, str | None, int | None]
"""user_id, first_name, last_name, birthts"""


class Importer(Protocol):
    """`run` returns its seconds, or raises what the run failed with."""

    name: str

    def reset(self) -> None:
        """Be as before the first run; the objects stay."""

    def run(self) -> float: ...

    def people(self) -> list[Person]: ...

    def rejections(self) -> list[str]:
        """Messages about files that were not taken."""


def stored_people(stack: Stack, table: str, columns: set[str] | None = None) -> list[Person]:
    """The people in a table; columns that it does not have are null."""
    names = ("user_id", "first_name", "last_name", "birthts")
    selected = ", ".join(name if columns is None or name in columns else "null" for name in names)
    return [(row[0], row[1], row[2], row[3]) for row in stack.sql(f"select {selected} from {table} order by 1")]
