"""The README's example consumer of /changes, and the users that its copy should contain."""

import re
from typing import Any

from tests.documents import README
from tests.stack import Stack

People = dict[str, dict[str, Any]]


def example() -> dict[str, Any]:
    """Run the README's Python example. Return its globals, which include `follow` and `URL`."""
    [code] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def people(stack: Stack) -> People:
    """Return the users that an exact copy contains, by user_id."""
    rows = stack.sql(
        "select row_to_json(person) from "
        "(select id, user_id, first_name, last_name, birthdate, birthts, img_path from users) as person"
    )
    return {person["user_id"]: person for (person,) in rows}
