"""Query parameters: their definition in tables, and parsing by a table.

Everything else follows from the tables: /openapi.json and the page's form are made from them, and the README's table is
compared with them.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from werkzeug.datastructures import MultiDict

from .age import MAX_AGE
from .shared.api import ApiError
from .shared.quoting import quote, truncate

MAX_NAME_LENGTH = 200
"""Characters of a name that process-data accepts."""


@dataclass(frozen=True)
class Parameter:
    """`parse` converts a text to its value, and raises ValueError if it is not as `expected`.

    `schema` describes the texts as JSON Schema; `default` is the value without the parameter.
    """

    expected: str
    description: str
    parse: Callable[[str], Any]
    schema: Mapping[str, Any] = field(default_factory=dict)
    default: Any = None
    repeatable: bool = False


Table = Mapping[str, Parameter]


def parse_parameters(table: Table, query: MultiDict[str, str]) -> dict[str, Any]:
    """The values of all parameters in the table. Raises ApiError, which names what is invalid and what is expected."""
    values = {name: parameter.default for name, parameter in table.items()}
    for name, texts in query.lists():
        if (parameter := table.get(name)) is None:
            expected = f"one of {', '.join(table)}" if table else "none"
            raise invalid_parameter(name, f"unknown parameter {quote(name)}; expected {expected}")
        parsed = tuple(_parse(name, parameter, text) for text in texts)
        if not parameter.repeatable and len(parsed) > 1:
            raise invalid_parameter(name, f"repeated parameter {name}: expected once")
        values[name] = parsed if parameter.repeatable else parsed[0]
    return values


def invalid_parameter(name: str, message: str) -> ApiError:
    return ApiError(400, "bad_parameter", message, parameter=truncate(name))


def _parse(name: str, parameter: Parameter, text: str) -> Any:
    try:
        return parameter.parse(text)
    except ValueError:
        raise invalid_parameter(name, f"invalid {name}={quote(text)}: expected {parameter.expected}") from None


def boolean(text: str) -> bool:
    if (lower := text.lower()) not in ("true", "false", "1", "0"):
        raise ValueError
    return lower in ("true", "1")


def years(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,20})?", text) or float(text) > MAX_AGE:
        raise ValueError
    return float(text)


def user_id(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError
    return text


def name(text: str) -> str:
    stripped = text.strip()
    if not 1 <= len(stripped) <= MAX_NAME_LENGTH or any(
        unicodedata.category(character) in ("Cc", "Cs") for character in stripped
    ):
        raise ValueError
    return stripped


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not minimum <= int(text) <= maximum:
            raise ValueError
        return int(text)

    return parse


def one_of(choices: Mapping[str, Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if text not in choices:
            raise ValueError
        return choices[text]

    return parse
