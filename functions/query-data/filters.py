"""The query parameters: one table of what they are, and the filters that a request's query makes of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import MultiDict

from .age import OLDEST
from .shared.api import ApiError


@dataclass(frozen=True)
class Filters:
    """Which people are asked for. Ages are in years, both ends included; None and () stand for everyone."""

    is_image_exists: bool | None = None
    min_age: float | None = None
    max_age: float | None = None
    user_id: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parameter:
    """`read` makes the filter's value of the text; a ValueError means that the text is not `allowed`."""

    allowed: str
    read: Callable[[str], Any]
    repeatable: bool = False


def _boolean(text: str) -> bool:
    if (lower := text.lower()) not in ("true", "false", "1", "0"):
        raise ValueError
    return lower in ("true", "1")


def _years(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,20})?", text) or float(text) > OLDEST:
        raise ValueError
    return float(text)


def _user_id(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError
    return text


_YEARS = f"years from 0 to {OLDEST}, such as 30 or 30.5"

PARAMETERS = {
    "is_image_exists": Parameter("true, false, 1 or 0", _boolean),
    "min_age": Parameter(_YEARS, _years),
    "max_age": Parameter(_YEARS, _years),
    "user_id": Parameter("1 to 18 digits, and it may be repeated", _user_id, repeatable=True),
}


def read_filters(query: MultiDict[str, str]) -> Filters:
    """Check the request's query; ApiError names the parameter, its value and what is allowed."""
    values: dict[str, Any] = {}
    for name, texts in query.lists():
        if (parameter := PARAMETERS.get(name)) is None:
            raise _refusal(name, f"the parameter {_shown(name)} is not known: {', '.join(PARAMETERS)} are")
        read = tuple(_read(name, parameter, text) for text in texts)
        if not parameter.repeatable and len(texts) > 1:
            raise _refusal(name, f"{name} is given {len(texts)} times: once is allowed")
        values[name] = read if parameter.repeatable else read[0]
    filters = Filters(**values)
    if filters.min_age is not None and filters.max_age is not None and filters.min_age > filters.max_age:
        message = f"min_age={query['min_age']} is over max_age={query['max_age']}: it must not be"
        raise _refusal("min_age", message)
    return filters


def _read(name: str, parameter: Parameter, text: str) -> Any:
    try:
        return parameter.read(text)
    except ValueError:
        raise _refusal(name, f"{name}={_shown(text)} is not allowed: {parameter.allowed}") from None


def _refusal(name: str, message: str) -> ApiError:
    return ApiError(400, "bad_parameter", message, parameter=_cut(name))


def _shown(text: str) -> str:
    """The text as a message shows it: escaped, in quotes, and not longer than a glance."""
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"
