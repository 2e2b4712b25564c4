"""The controls of the form match the query parameters."""

from query_data.query import PARAMETERS
from query_data.web.form import controls
from werkzeug.datastructures import MultiDict


def test_every_parameter_except_after_count_and_format_has_a_control() -> None:
    names = [control.name for control in controls(MultiDict())]
    assert sorted([*names, "after", "count", "format"]) == sorted(PARAMETERS)


def test_the_choices_match_the_allowed_values() -> None:
    choices = {control.name: control.choices for control in controls(MultiDict()) if control.choices}
    assert list(choices["sort"]) == PARAMETERS["sort"].schema["enum"]
    values = [PARAMETERS["is_image_exists"].parse(text) for text in choices["is_image_exists"] if text]
    assert values == [True, False]


def test_blank_values_are_dropped_but_a_field_for_a_new_value_is_added() -> None:
    parameters = MultiDict([("user_id", ""), ("user_id", "5"), ("user_id", ""), ("name", ""), ("name", "Ann")])
    values = {control.name: control.values for control in controls(parameters)}
    assert (values["user_id"], values["name"], values["min_age"]) == (("5", ""), ("Ann",), ("",))


def test_only_valid_spellings_of_a_choice_select_it() -> None:
    for text, choice in (("1", "true"), ("TRUE", "true"), ("0", "false"), ("maybe", "")):
        all_controls = controls(MultiDict([("is_image_exists", text)]))
        [control] = [control for control in all_controls if control.name == "is_image_exists"]
        assert control.values == (choice,)
