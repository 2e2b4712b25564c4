"""Query parameters: what each one is, and how a request's query is read by a table of them.

The tables are the one definition: a request is checked by them, and /openapi.json, the page's form and the
README's table are made from them or compared with them.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from werkzeug.datastructures import MultiDict

from .age import OLDEST
from .shared.api import ApiError
from .shared.quoting import quoted, truncate

LONGEST_NAME = 200
"""Characters of a name, as process-data takes them in."""


@dataclass(frozen=True)
class Parameter:
    """`read` makes the value of the text; a ValueError means that the text is not `allowed`.

    `schema` describes the texts as JSON Schema, `default` is the value when the parameter isn't given.
    """

    allowed: str
    meaning: str
    read: Callable[[str], Any]
    schema: Mapping[str, Any] = field(default_factory=dict)
    default: Any = None
    repeatable: bool = False


Table = Mapping[str, Parameter]


def read_parameters(table: Table, query: MultiDict[str, str]) -> dict[str, Any]:
    """The value of every parameter in the table; ApiError names the parameter, its value and what is allowed."""
    values = {name: parameter.default for name, parameter in table.items()}
    for name, texts in query.lists():
        if (parameter := table.get(name)) is None:
            known = f"{', '.join(table)} are" if table else "there are none here"
            raise refusal(name, f"the parameter {quoted(name)} is not known: {known}")
        read = tuple(_read(name, parameter, text) for text in texts)
        if not parameter.repeatable and len(read) > 1:
            raise refusal(name, f"{name} is given {len(read)} times: once is allowed")
        values[name] = read if parameter.repeatable else read[0]
    return values


def refusal(name: str, message: str) -> ApiError:
    return ApiError(400, "bad_parameter", message, parameter=truncate(name))


def _read(name: str, parameter: Parameter, text: str) -> Any:
    try:
        return parameter.read(text)
    except ValueError:
        raise refusal(name, f"{name}={quoted(text)} is not allowed: {parameter.allowed}") from None


def boolean(text: str) -> bool:
    if (lower := text.lower()) not in ("true", "false", "1", "0"):
        raise ValueError
    return lower in ("true", "1")


def years(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,20})?", text) or float(text) > OLDEST:
        raise ValueError
    return float(text)


def user_id(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError
    return text


def name(text: str) -> str:
    stripped = text.strip()
    if not 1 <= len(stripped) <= LONGEST_NAME or any(unicodedata.category(one) in ("Cc", "Cs") for one in stripped):
        raise ValueError
    return stripped


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
            raise ValueError
        return int(text)

    return read


def one_of(choices: Mapping[str, Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text not in choices:
            raise ValueError
        return choices[text]

    return read
