"""Filters are parsed; the error for an invalid one quotes it and says what is expected."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import is_valid
from query_data.changes import PARAMETERS as CHANGES
from query_data.changes import parse_changes_request
from query_data.filters import FILTERS, Filters, make_filters
from query_data.parameters import parse_parameters
from query_data.query import PARAMETERS, PEOPLE_PER_PAGE, parse_query
from query_data.shared.api import ApiError
from query_data.shared.storage.sql import BindValues
from query_data.tables import PARAMETERS as TABLE
from query_data.tables import REJECTED, parse_page_request
from werkzeug.datastructures import MultiDict

from tests.event import Event

DEFINITIONS = {"/": PARAMETERS, "/changes": CHANGES, "/rejected": TABLE}


def parse(*pairs: tuple[str, str]) -> Filters:
    return make_filters(parse_parameters(FILTERS, MultiDict(list(pairs))))


def error_of(*pairs: tuple[str, str]) -> ApiError:
    with pytest.raises(ApiError) as raised:
        parse(*pairs)
    assert (raised.value.status, raised.value.code) == (400, "bad_parameter")
    return raised.value


def test_without_parameters_no_filter_is_set() -> None:
    assert parse() == Filters(is_image_exists=None, min_age=None, max_age=None, user_id=(), name=None)


@pytest.mark.parametrize(
    ("name", "text"),
    [("is_image_exists", "0"), ("min_age", "0"), ("max_age", "0"), ("user_id", "0"), ("name", "0")],
)
def test_only_filters_that_are_set_are_active(name: str, text: str) -> None:
    assert (parse().active, parse((name, text)).active) == (set(), {name})


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("FALSE", False), ("True", True), ("1", True), ("0", False)]
)
def test_is_image_exists_is_case_insensitive(text: str, value: bool) -> None:
    assert parse(("is_image_exists", text)).is_image_exists is value


@pytest.mark.parametrize("text", ["0", "200", "200.0", "30.5", "007", "0.0027397260273972603"])
@pytest.mark.parametrize("name", ["min_age", "max_age"])
def test_ages_are_decimal_years(name: str, text: str) -> None:
    assert getattr(parse((name, text)), name) == float(text)


def test_user_id_is_text_and_may_be_repeated() -> None:
    assert parse(("user_id", "0001"), ("user_id", "1"), ("user_id", "9" * 18)).user_id == ("0001", "1", "9" * 18)


def test_spaces_around_a_name_are_removed_and_not_counted() -> None:
    assert parse(("name", f" {'é' * 200} ")).name == "é" * 200


def test_a_thousand_user_ids_are_accepted() -> None:
    assert len(parse(*(("user_id", str(n)) for n in range(1000))).user_id) == 1000


@pytest.mark.parametrize(("number", "limit"), [(0, None), (1, 1), (1000, 1000), (1001, None)])
def test_up_to_a_thousand_requested_users_are_one_page(number: int, limit: int | None) -> None:
    query = "&".join(f"user_id={user_id}" for user_id in range(number))
    assert parse_query(Event(f"/?{query}", "GET")).limit == limit


BAD_BOOLEANS = ["", "yes", "2", "tru", "true ", "true\n", "null", "١"]
BAD_YEARS = [
    *(
        "",
        "-1",
        "+1",
        "200.1",
        "200.00000000000000000001",
        "201",
        "1e2",
        "nan",
        "inf",
        "1,5",
        ".5",
        "5.",
        " 30",
        "30\n",
        "0x10",
        "1_0",
        "٣٠",
        "３０",
    ),
    *("1" * 10_000, "0." + "1" * 10_000, "1; drop table users", "1' or '1'='1", "1\0"),
]
BAD_IDS = [
    "",
    "abc",
    "-1",
    "1.0",
    "1" * 19,
    "١٢٣",
    "１",
    "1\n",
    " 1",
    "1}','{2",
    "1'; drop table users; --",
    "1\0",
    "1,2",
]
BAD_NAMES = ["", " ", "é" * 201, "a\0b", "a\nb", "\nab", "ab\t", "\x7f", "\ud800"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("is_image_exists", text) for text in BAD_BOOLEANS),
        *(("min_age", text) for text in BAD_YEARS),
        *(("max_age", text) for text in BAD_YEARS),
        *(("user_id", text) for text in BAD_IDS),
        *(("name", text) for text in BAD_NAMES),
    ],
    ids=lambda text: repr(text)[:30],
)
def test_an_invalid_value_is_an_error_that_says_what_is_expected(name: str, text: str) -> None:
    error = error_of((name, text))
    assert error.detail == {"parameter": name}
    assert error.message.startswith(f"invalid {name}={repr(text[:40])[:-1]}")
    assert error.message.endswith(f": expected {FILTERS[name].expected}")
    assert len(error.message) < 250


@pytest.mark.parametrize(
    "name", ["", "age", "MIN_AGE", "min_age ", "user_id[]", "limit", "x" * 10_000, "'; drop table users"]
)
def test_an_unknown_parameter_is_an_error_that_lists_the_known_ones(name: str) -> None:
    error = error_of(("min_age", "1"), (name, "1"))
    assert repr(name[:40])[:-1] in error.message
    assert all(known in error.message for known in FILTERS)
    assert len(error.message) < 250


@pytest.mark.parametrize("name", [name for name, parameter in FILTERS.items() if not parameter.repeatable])
def test_a_repeated_parameter_is_an_error(name: str) -> None:
    error = error_of((name, "1"), (name, "1"))
    assert error.message == f"repeated parameter {name}: expected at most one"


def test_one_invalid_user_id_among_valid_ones_is_an_error() -> None:
    assert "user_id='x'" in error_of(("user_id", "1"), ("user_id", "x"), ("user_id", "2")).message


def test_min_age_must_not_exceed_max_age() -> None:
    assert parse(("min_age", "30"), ("max_age", "30.0")) == Filters(min_age=30, max_age=30)
    assert "expected at most max_age=0" in error_of(("min_age", "1"), ("max_age", "0")).message
    error = error_of(("min_age", "30.1"), ("max_age", "30"))
    assert error.message == "invalid min_age=30.1: expected at most max_age=30"
    assert error.detail == {"parameter": "min_age"}


def test_the_default_limit_depends_on_the_path() -> None:
    rejected, html = Event("/rejected", "GET"), Event("/?format=html", "GET")
    assert (parse_query(html).limit, PEOPLE_PER_PAGE) == (None, 50)  # the web page applies PEOPLE_PER_PAGE
    assert parse_page_request(REJECTED, rejected).limit == 100
    assert parse_changes_request(Event("/changes", "GET")).limit == 1000


VALUES: list[int | float | str] = [
    *(-1, -0.5, 0, 0.5, 1, 2, 199.5, 200, 200.5, 201, 999, 1000, 1001),
    *("", "x", "0", "1", "2", "10", "1" * 18, "1" * 19, "é" * 200, "é" * 201),
    *("true", "TRUE", "false", "fAlse", "yes", "xtrue", "1true", "user_id", "-user_id", "last_name", "-last_name"),
    *("birthdate", "-birthdate", "first_name", "json", "JSON", "csv", "ndjson", "html", "xml"),
]


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, parameters in DEFINITIONS.items() for name in parameters]
)
def test_the_schema_of_a_parameter_allows_what_the_parser_accepts(path: str, name: str) -> None:
    parameter = DEFINITIONS[path][name]
    is_number = parameter.schema["type"] in ("number", "integer")
    values = [value for value in VALUES if isinstance(value, str) != is_number]
    accepted = []
    for value in values:
        with suppress(ValueError):
            parameter.parse(str(value))
            accepted.append(value)
    assert accepted == [value for value in values if is_valid(dict(parameter.schema), value)]
    if "default" in parameter.schema:
        assert parameter.parse(parameter.schema["default"]) == parameter.default


@given(st.sampled_from(sorted(FILTERS.keys() - {"name"})), st.text())
def test_filters_other_than_name_accept_only_digits_dots_and_booleans(name: str, text: str) -> None:
    try:
        filters = parse((name, text))
    except ApiError as error:
        assert (error.status, error.detail["parameter"]) == (400, name)
    else:
        value = getattr(filters, name)
        assert value in (True, False) or re.fullmatch(r"[0-9.]+", text)
        assert not isinstance(value, str)


def test_statements_do_not_share_their_values() -> None:
    first, second = BindValues(), BindValues()
    assert [first.bind("a"), first.bind("b"), second.bind("c")] == [":p0", ":p1", ":p0"]
    assert (first.values, second.values) == ({"p0": "a", "p1": "b"}, {"p0": "c"})
