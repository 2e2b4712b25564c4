"""How process-data parses its requests."""

import json
from urllib.parse import quote_plus

import pytest
from process_data.keys import MAX_REQUESTED_KEYS
from process_data.request import Request, parse_request
from process_data.runs import Trigger
from process_data.shared.api import ApiError
from werkzeug.datastructures import MultiDict

from tests.event import Event

USERS = [str(number) for number in range(MAX_REQUESTED_KEYS + 1)]


def parse(query: str = "", **headers: str) -> Request:
    return parse_request(Event(f"/?{query}", headers=headers), "src")


def notification(*keys: str, bucket: str = "src") -> Event:
    records = [{"s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}}} for key in keys]
    return Event(body=json.dumps({"Records": records}).encode())


def event_keys(*keys: str, bucket: str = "src") -> tuple[str, ...] | None:
    request = parse_request(notification(*keys, bucket=bucket), "src")
    assert request.trigger == Trigger.EVENT
    return request.keys


def error_of(event: Event) -> tuple[int, str, str]:
    with pytest.raises(ApiError) as raised:
        parse_request(event, "src")
    return raised.value.status, raised.value.code, raised.value.message


def test_a_request_without_parameters_processes_the_whole_bucket() -> None:
    assert parse() == Request(Trigger.HTTP)
    assert parse(X_Connector="cron-connector") == Request(Trigger.CRON)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("user_id=1", Request(Trigger.HTTP, keys=("1.csv",))),
        ("user_id=2&user_id=0042&user_id=2", Request(Trigger.HTTP, keys=("0042.csv", "2.csv"))),
        ("since=7", Request(Trigger.CONTINUATION, since=7)),
        ("fan_out=1", Request(Trigger.HTTP, fan_out=1)),
        ("fan_out=10&accept_empty=true", Request(Trigger.HTTP, fan_out=10, accept_empty=True)),
        ("since=7&accept_empty=1", Request(Trigger.CONTINUATION, since=7, accept_empty=True)),
        ("since=0", Request(Trigger.CONTINUATION, since=0)),
        ("user_id=1&accept_empty=1", Request(Trigger.HTTP, keys=("1.csv",), accept_empty=True)),
        ("accept_empty=True", Request(Trigger.HTTP, accept_empty=True)),
        ("accept_empty=0", Request(Trigger.HTTP)),
        ("accept_empty=false", Request(Trigger.HTTP)),
    ],
)
def test_parameters_are_parsed(query: str, expected: Request) -> None:
    assert parse(query) == expected


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("user_id=", "user_id"),
        ("user_id=x", "user_id"),
        ("user_id=1&user_id=-1", "user_id"),
        ("user_id=1234567890123456789", "user_id"),
        ("user_id=1.csv", "user_id"),
        ("user_id=١", "user_id"),
        ("since=", "since"),
        ("since=now", "since"),
        ("since=-1", "since"),
        ("since=1&since=2", "since"),
        ("since=1234567890123456789", "since"),
        ("fan_out=0", "fan_out"),
        ("fan_out=11", "fan_out"),
        ("fan_out=01", "fan_out"),
        ("fan_out=two", "fan_out"),
        ("fan_out=1&fan_out=1", "fan_out"),
        ("accept_empty=", "accept_empty"),
        ("accept_empty=yes", "accept_empty"),
        ("accept_empty=1&accept_empty=1", "accept_empty"),
        ("prefix=1", "prefix"),
        ("other", "other"),
    ],
)
def test_an_invalid_parameter_is_an_error_that_names_it(query: str, parameter: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse(query)
    error = raised.value
    assert (error.status, error.code, error.detail) == (400, "bad_parameter", {"parameter": parameter})
    assert parameter in error.message
    assert "expected" in error.message


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("user_id=1&since=1", "user_id"), ("fan_out=2&user_id=1", "user_id"), ("fan_out=2&since=1", "since")],
)
def test_user_id_since_and_fan_out_are_mutually_exclusive(query: str, parameter: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse(query)
    error = raised.value
    assert (error.status, error.code, error.detail) == (400, "bad_parameter", {"parameter": parameter})
    assert error.message == "user_id, since and fan_out are mutually exclusive: expected at most one"


@pytest.mark.parametrize("path", ["/erase", "/erase/"])
def test_an_erasure_names_users(path: str) -> None:
    request = parse_request(Event(f"{path}?user_id=2&user_id=0042&user_id=2"), "src")
    assert request == Request(Trigger.HTTP, keys=("0042.csv", "2.csv"), erase=True)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("", "user_id"), ("user_id=1&user_id=x", "user_id"), ("user_id=1&since=1&accept_empty=1", "accept_empty")],
)
def test_an_invalid_parameter_of_an_erasure_is_an_error_that_names_it(query: str, parameter: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse_request(Event(f"/erase?{query}"), "src")
    assert (raised.value.status, raised.value.detail) == (400, {"parameter": parameter})


@pytest.mark.parametrize("event", [Event(), Event("/?user_id=1"), Event("/erase?user_id=1"), notification("1.csv")])
def test_every_request_keeps_its_call_id(event: Event) -> None:
    event.headers["X-Call-Id"] = "some-call"
    assert parse_request(event, "src").call_id == "some-call"


def test_a_long_call_id_is_truncated() -> None:
    assert parse(X_Call_Id="x" * 100).call_id == "x" * 64


@pytest.mark.parametrize("path", ["/erased", "/Erase", "/erase/1", "/healthz"])
def test_an_unknown_path_is_a_404(path: str) -> None:
    assert error_of(Event(f"{path}?user_id=1"))[:2] == (404, "not_found")


@pytest.mark.parametrize("path", ["/", "/erase?user_id=1"])
def test_methods_other_than_post_are_a_405(path: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse_request(Event(path, method="GET"), "src")
    assert (raised.value.status, raised.value.headers) == (405, {"Allow": "POST"})


def test_a_request_is_limited_to_a_thousand_users() -> None:
    too_many = "&".join(f"user_id={user_id}" for user_id in USERS)
    assert error_of(Event(f"/?{too_many}"))[:2] == (413, "too_many_users")
    thousand = too_many.rpartition("&")[0]
    assert parse(f"{thousand}&{thousand}").keys == tuple(sorted(f"{user_id}.csv" for user_id in USERS[:-1]))


def test_an_event_is_limited_to_a_thousand_users() -> None:
    keys = [f"{user_id}.csv" for user_id in USERS]
    assert error_of(notification(*keys))[:2] == (413, "too_many_users")
    photos = [f"{user_id}.png" for user_id in USERS[:-1]]
    assert event_keys(*keys[:-1], *photos) == tuple(sorted(keys[:-1]))


def test_a_body_is_limited_to_one_mebibyte() -> None:
    assert parse_request(Event(body=b" " * 1024 * 1024), "src") == Request(Trigger.HTTP)
    assert error_of(Event(body=b" " * (1024 * 1024 + 1)))[:2] == (413, "too_large")


def test_an_event_selects_users_and_misnamed_csvs() -> None:
    assert event_keys("1.png", "1.csv", "a b+ü.csv", "1.x.csv", "2.CSV") == ("1.csv", "1.x.csv", "2.CSV", "a b+ü.csv")


@pytest.mark.parametrize(
    "key",
    ["notes.txt", "folder/1.csv", "folder/", "1.gif", "x.png", "a\0.csv", "", "x" * 1021 + ".csv", "ä" * 511 + ".csv"],
)
def test_an_event_for_an_unrelated_key_is_ignored(key: str) -> None:
    assert event_keys(key) == ()


def test_an_event_may_name_the_longest_key() -> None:
    for longest in ("x" * 1020 + ".csv", "ä" * 510 + ".csv"):  # 1,024 bytes
        assert event_keys(longest) == (longest,)


def test_an_event_for_another_bucket_is_ignored() -> None:
    assert event_keys("1.csv", bucket="res") == ()


@pytest.mark.parametrize("key", ["%ff.csv", "%00.csv", "\ud800.csv"])
def test_an_event_for_an_unrepresentable_key_is_ignored(key: str) -> None:
    body = json.dumps({"Records": [{"s3": {"bucket": {"name": "src"}, "object": {"key": key}}}]}).encode()
    assert parse_request(Event(body=body), "src").keys == ()


def test_an_event_takes_no_parameters() -> None:
    event = notification("1.csv")
    event.query = MultiDict({"user_id": "1"})
    assert error_of(event)[:2] == (400, "bad_parameter")


@pytest.mark.parametrize("name", ["user_id", "since", "fan_out", "accept_empty", "x" * 9000])
@pytest.mark.parametrize("path", ["/", "/erase", f"/{'x' * 9000}"])
def test_error_messages_truncate_long_values(name: str, path: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse_request(Event(f"{path}?{name}={'x' * 9000}"), "src")
    assert len(raised.value.message) + len(str(raised.value.detail)) < 300
