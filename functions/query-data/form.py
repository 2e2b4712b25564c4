"""The page's form: a control for each parameter, made from the table that requests are checked by.

`after`, `count` and `format` have none: the page's own links and figures stand for them.
"""

from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import MultiDict

from .parameters import Parameter
from .query import PARAMETERS

PEOPLE_A_PAGE = 50

_LABELS = {
    "name": "Name begins with",
    "is_image_exists": "Photo",
    "sort": "Order",
    "min_age": "Age from",
    "max_age": "Age to",
    "user_id": "User ID",
    "limit": "People a page",
}
"""In the form's order."""

_CHOICES = {
    "is_image_exists": {"": "With or without", "true": "With a photo", "false": "Without a photo"},
    "sort": {
        "user_id": "User ID",
        "-user_id": "User ID, last first",
        "birthdate": "Oldest first",
        "-birthdate": "Youngest first",
        "last_name": "Last name, A–Z",
        "-last_name": "Last name, Z–A",
    },
}

_PLACEHOLDERS = {"min_age": "0", "max_age": "any", "user_id": "any", "name": "any", "limit": str(PEOPLE_A_PAGE)}


@dataclass(frozen=True)
class Control:
    """A field, or a row of them when the parameter may be repeated. `choices` are of a select, texts by value."""

    name: str
    label: str
    values: tuple[str, ...]
    choices: dict[str, str] | None
    attributes: dict[str, str]
    error: str | None


def controls(query: MultiDict[str, str], wrong: str | None = None, message: str | None = None) -> list[Control]:
    """The form as it was sent, with the message beside the parameter that is `wrong`."""
    return [
        _control(name, PARAMETERS[name], query.getlist(name), message if name == wrong else None) for name in _LABELS
    ]


def _control(name: str, parameter: Parameter, texts: list[str], error: str | None) -> Control:
    values = [text for text in texts if text]
    if name in _CHOICES:
        values = [_as_choice(parameter, text, _CHOICES[name]) for text in values]
    shown = (*values, "") if parameter.repeatable else (*values, "")[:1]
    attributes = _attributes(name, parameter)
    return Control(name, _LABELS[name], shown, _CHOICES.get(name), attributes, error)


def _as_choice(parameter: Parameter, text: str, choices: dict[str, str]) -> str:
    """The choice that means the same as the text: 1 is true."""
    try:
        return next(one for one in choices if one and parameter.read(one) == parameter.read(text))
    except ValueError:
        return ""


def _attributes(name: str, parameter: Parameter) -> dict[str, str]:
    """What the browser may check by itself, from the parameter's JSON Schema."""
    schema: dict[str, Any] = dict(parameter.schema)
    found = {"placeholder": _PLACEHOLDERS.get(name, "")}
    match schema["type"]:
        case "number":
            found |= {"type": "number", "step": "any", "inputmode": "decimal"}
        case "integer":
            found |= {"type": "number", "step": "1", "inputmode": "numeric"}
        case _:
            found |= {"type": "text", "autocomplete": "off"}
    named = {"minimum": "min", "maximum": "max", "maxLength": "maxlength", "pattern": "pattern"}
    found |= {html: str(schema[one]) for one, html in named.items() if one in schema}
    return found | ({"title": parameter.allowed} if "pattern" in schema else {})
