"""Values in SQL statements."""

from collections.abc import Callable
from datetime import date

import pg8000.native

Bind = Callable[[str | date], str]
"""Returns the SQL text for a value: a literal (`literal`) or a placeholder (`BindValues.bind`)."""


def literal(value: str | date) -> str:
    """The value as an SQL literal: for COPY, which takes no parameters, or if the best plan depends on the value."""
    return str(pg8000.native.literal(value))


class BindValues:
    """Values that are sent separately from the statement: the parameters of `Connection.run_prepared`."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def bind(self, value: str | date) -> str:
        """Add the value and return its placeholder."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f":{name}"
