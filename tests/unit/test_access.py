"""`require_access` and `conceal`: without the token, a request gets a 401, or an error without details."""

from base64 import b64encode

import pytest
from process_data.shared.access import AccessSettings, conceal, require_access
from process_data.shared.api import ApiError
from process_data.shared.storage.errors import SettingError
from process_data.shared.storage.settings import Secret

from tests.event import Event

TOKEN_SETTINGS = AccessSettings(api_token=Secret("s3cret"))


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def request_with(authorization: str | None) -> Event:
    return Event(headers=None if authorization is None else {"Authorization": authorization})


@pytest.mark.parametrize(
    "authorization", ["Bearer s3cret", "bearer  s3cret", basic("", "s3cret"), basic("anyone", "s3cret")]
)
def test_the_token_is_accepted_as_bearer_or_basic(authorization: str) -> None:
    require_access(request_with(authorization), TOKEN_SETTINGS)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        "Bearer s3cret2",
        "s3cret",
        "Basic",
        "Basic !",
        basic("anyone", "s3cret") + "!",
        basic("s3cret", ""),
        "Bearer ü",
    ],
)
def test_a_missing_or_wrong_token_is_a_401_that_names_the_bearer_scheme(authorization: str | None) -> None:
    with pytest.raises(ApiError) as raised:
        require_access(request_with(authorization), TOKEN_SETTINGS)
    assert raised.value.status == 401
    assert "Bearer" in raised.value.headers["WWW-Authenticate"]
    assert "s3cret" not in raised.value.message


@pytest.mark.parametrize("token", ["", "s3cret"])
def test_with_auth_none_everyone_is_authorized(token: str) -> None:
    require_access(request_with(None), AccessSettings(auth="none", api_token=Secret(token)))


def test_server_errors_hide_details_from_clients_without_the_token() -> None:
    error = ApiError(503, "s3_unavailable", "S3 at s3.example", headers={"Retry-After": "5"}, bucket="src")
    concealed = conceal(request_with(None), error, lambda: TOKEN_SETTINGS)
    assert (concealed.status, concealed.code, concealed.headers) == (503, "s3_unavailable", error.headers)
    assert not concealed.detail
    assert "s3.example" not in concealed.message
    assert conceal(request_with("Bearer s3cret"), error, lambda: TOKEN_SETTINGS) is error


def test_a_token_may_have_characters_outside_ascii() -> None:
    settings = AccessSettings(api_token=Secret("pässwört"))
    in_latin_1 = "pässwört".encode().decode("latin-1")  # as WSGI passes the header
    for authorization in (f"Bearer {in_latin_1}", basic("", "pässwört")):
        require_access(request_with(authorization), settings)


@pytest.mark.parametrize(
    "error",
    [
        ApiError(404, "not_found", "no such path"),
        ApiError(500, "bad_setting", "x is required"),
        ApiError(500, "internal_error", "unexpected error"),
        ApiError(503, "busy", "try again"),
        ApiError(503, "schema_missing", "apply the migrations"),
    ],
)
def test_client_errors_and_public_codes_are_sent_in_full_even_if_the_settings_are_invalid(error: ApiError) -> None:
    def load_settings() -> AccessSettings:
        raise SettingError("the settings are invalid")

    assert conceal(request_with(None), error, load_settings) is error
