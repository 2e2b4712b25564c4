"""Query parameters: how they are defined and parsed.

/openapi.json is generated from all definitions, and the form of the web page from those in query.py.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from werkzeug.datastructures import MultiDict

from .age import MAX_AGE
from .shared.api import invalid_parameter
from .shared.quoting import quote
from .shared.user_ids import is_user_id

MAX_NAME_LENGTH = 200
"""The maximum number of characters of a name. process-data rejects longer ones."""


@dataclass(frozen=True)
class Parameter:
    """The definition of a parameter. `parse` converts a string, and raises ValueError if it is not as `expected`.

    `schema` is the JSON Schema. `default` is the value if a request lacks the parameter.
    """

    expected: str
    description: str
    parse: Callable[[str], Any]
    schema: Mapping[str, Any] = field(default_factory=dict)
    default: Any = None
    repeatable: bool = False


Parameters = Mapping[str, Parameter]
"""The definitions of a path's parameters by name."""


def parse_parameters(definitions: Parameters, query: MultiDict[str, str]) -> dict[str, Any]:
    """Return the value of each defined parameter.

    Raises ApiError 400 if the query has an unknown or invalid parameter, or repeats one that is not repeatable.
    """
    values = {name: parameter.default for name, parameter in definitions.items()}
    for name, texts in query.lists():
        if (parameter := definitions.get(name)) is None:
            expected = f"expected one of {', '.join(definitions)}" if definitions else "this path has no parameters"
            raise invalid_parameter(name, f"unknown parameter {quote(name)}; {expected}")
        parsed = tuple(_parse(name, parameter, text) for text in texts)
        if not parameter.repeatable and len(parsed) > 1:
            raise invalid_parameter(name, f"repeated parameter {name}: expected at most one")
        values[name] = parsed if parameter.repeatable else parsed[0]
    return values


def _parse(name: str, parameter: Parameter, text: str) -> Any:
    try:
        return parameter.parse(text)
    except ValueError:
        raise invalid_parameter(name, f"invalid {name}={quote(text)}: expected {parameter.expected}") from None


def parse_boolean(text: str) -> bool:
    if (lower := text.lower()) not in ("true", "false", "1", "0"):
        raise ValueError
    return lower in ("true", "1")


def parse_years(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,20})?", text) or Decimal(text) > MAX_AGE:
        raise ValueError
    return float(text)


def parse_user_id(text: str) -> str:
    if not is_user_id(text):
        raise ValueError
    return text


def parse_name(text: str) -> str:
    stripped = text.strip()
    if not 1 <= len(stripped) <= MAX_NAME_LENGTH or any(
        unicodedata.category(character) in ("Cc", "Cs") for character in text
    ):
        raise ValueError
    return stripped


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a parser for whole numbers from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not minimum <= int(text) <= maximum:
            raise ValueError
        return int(text)

    return parse


def one_of(choices: Mapping[str, Any]) -> Callable[[str], Any]:
    """Return a parser that accepts the keys of `choices` and returns their values."""

    def parse(text: str) -> Any:
        if text not in choices:
            raise ValueError
        return choices[text]

    return parse
