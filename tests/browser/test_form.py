"""The form asks for what the table of parameters allows."""

from query_data.query import PARAMETERS
from query_data.web.form import controls
from werkzeug.datastructures import MultiDict


def test_every_parameter_has_a_control_but_those_that_the_page_itself_stands_for() -> None:
    names = [one.name for one in controls(MultiDict())]
    assert sorted([*names, "after", "count", "format"]) == sorted(PARAMETERS)


def test_every_choice_is_allowed_and_none_is_missing() -> None:
    choices = {one.name: one.choices for one in controls(MultiDict()) if one.choices}
    assert list(choices["sort"]) == PARAMETERS["sort"].schema["enum"]
    read = [PARAMETERS["is_image_exists"].parse(text) for text in choices["is_image_exists"] if text]
    assert read == [True, False]


def test_a_choice_is_shown_whatever_its_spelling() -> None:
    for text, choice in (("1", "true"), ("TRUE", "true"), ("0", "false"), ("maybe", "")):
        [control] = [one for one in controls(MultiDict([("is_image_exists", text)])) if one.name == "is_image_exists"]
        assert control.values == (choice,)
