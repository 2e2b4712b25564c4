"""Who may ask process-data for what."""

from base64 import b64encode

import pytest
from process_data.shared.api import ApiError, require_token
from werkzeug.datastructures import Headers, MultiDict


class Event:
    method, path, body, query = "POST", "/", b"", MultiDict[str, str]()

    def __init__(self, authorization: str | None) -> None:
        self.headers = Headers() if authorization is None else Headers({"Authorization": authorization})


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("given", ["Bearer s3cret", "bearer s3cret", basic("", "s3cret"), basic("anyone", "s3cret")])
def test_the_token_opens(given: str) -> None:
    require_token(Event(given), "s3cret")


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        "Bearer s3cret2",
        "s3cret",
        "Basic",
        "Basic !",
        basic("s3cret", ""),
        "Bearer ü",
    ],
)
def test_anything_else_is_refused_and_told_how(given: str | None) -> None:
    with pytest.raises(ApiError) as raised:
        require_token(Event(given), "s3cret")
    assert raised.value.status == 401
    assert "Bearer" in raised.value.headers["WWW-Authenticate"]
    assert "s3cret" not in raised.value.message


def test_without_a_token_everyone_may() -> None:
    require_token(Event(None), "")
