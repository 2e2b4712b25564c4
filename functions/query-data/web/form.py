"""The filter form: controls for parameters, generated from the definitions that the request parser uses.

`after`, `count` and `format` have no control: the page always shows the count, and links to other pages and formats.
"""

from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import MultiDict

from ..parameters import Parameter
from ..query import PARAMETERS, PEOPLE_PER_PAGE

_LABELS = {
    "name": "Name begins with",
    "is_image_exists": "Photo",
    "sort": "Order",
    "min_age": "Age from",
    "max_age": "Age to",
    "user_id": "User ID",
    "limit": "People per page",
}
"""The labels of the controls, in the order of the form."""

_CHOICES = {
    "is_image_exists": {"": "With or without", "true": "With a photo", "false": "Without a photo"},
    "sort": {
        "user_id": "User ID",
        "-user_id": "User ID, descending",
        "birthdate": "Oldest first",
        "-birthdate": "Youngest first",
        "last_name": "Last name, A–Z",
        "-last_name": "Last name, Z–A",
    },
}

_PLACEHOLDERS = {"min_age": "0", "max_age": "any", "user_id": "any", "name": "any", "limit": str(PEOPLE_PER_PAGE)}


@dataclass(frozen=True)
class Control:
    """The control of a parameter: a field for each of `values`, several only if the parameter is repeatable.

    `choices` are the options of a select, labels by value. Without them the fields are inputs.
    """

    name: str
    label: str
    values: tuple[str, ...]
    choices: dict[str, str] | None
    attributes: dict[str, str]
    error: str | None


def controls(
    parameters: MultiDict[str, str], invalid_parameter: str | None = None, message: str | None = None
) -> list[Control]:
    """Return the controls, filled with `parameters`. The control of `invalid_parameter` shows `message`."""
    return [
        _control(name, PARAMETERS[name], parameters.getlist(name), message if name == invalid_parameter else None)
        for name in _LABELS
    ]


def _control(name: str, parameter: Parameter, texts: list[str], error: str | None) -> Control:
    values = [text for text in texts if text]
    if name in _CHOICES:
        values = [_as_choice(parameter, text, _CHOICES[name]) for text in values]
    field_values = (*values, "") if parameter.repeatable else (*values, "")[:1]
    attributes = _attributes(name, parameter)
    return Control(name, _LABELS[name], field_values, _CHOICES.get(name), attributes, error)


def _as_choice(parameter: Parameter, text: str, choices: dict[str, str]) -> str:
    """Return the choice with the same value as the text (`true` for `1`), empty if the text is invalid."""
    try:
        return next(choice for choice in choices if choice and parameter.parse(choice) == parameter.parse(text))
    except ValueError:
        return ""


def _attributes(name: str, parameter: Parameter) -> dict[str, str]:
    """Return the input's attributes. They include the constraints of the JSON Schema, so the browser checks them."""
    schema: dict[str, Any] = dict(parameter.schema)
    attributes = {"placeholder": _PLACEHOLDERS.get(name, "")}
    match schema["type"]:
        case "number":
            attributes |= {"type": "number", "step": "any", "inputmode": "decimal"}
        case "integer":
            attributes |= {"type": "number", "step": "1", "inputmode": "numeric"}
        case _:
            attributes |= {"type": "text", "autocomplete": "off"}
    constraints = {"minimum": "min", "maximum": "max", "maxLength": "maxlength", "pattern": "pattern"}
    attributes |= {attribute: str(schema[keyword]) for keyword, attribute in constraints.items() if keyword in schema}
    return attributes | ({"title": parameter.expected} if "pattern" in schema else {})
