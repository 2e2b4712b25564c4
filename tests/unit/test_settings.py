"""Settings are parsed and typed; the error for an invalid one names it and says what is expected."""

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import pytest
from process_data.settings import Settings
from process_data.shared.storage.errors import SettingError
from process_data.shared.storage.settings import PostgresSettings, S3Settings, load
from query_data.settings import Settings as QuerySettings
from query_data.shared.storage.errors import SettingError as QuerySettingError
from query_data.shared.storage.settings import load as query_load

REQUIRED = {
    "s3_endpoint": "s3.example:9000",
    "s3_access_key": "hidden-access-key",
    "s3_secret_key": "hidden-key",
    "postgres_host": "db.example",
    "postgres_user": "someone",
    "postgres_password": "hidden-password",
    "api_token": "hidden-token",
}


def test_unset_settings_have_defaults() -> None:
    settings = load(Settings, REQUIRED)
    assert (settings.s3_endpoint, settings.s3_secure, settings.postgres_port) == ("s3.example:9000", True, 5432)
    assert (settings.postgres_sslmode, settings.source_bucket, settings.fetch_threads) == ("verify-full", "src", 64)


@pytest.mark.parametrize(("text", "value"), [(" False ", False), ("TRUE", True)])
def test_values_are_stripped_and_cast(text: str, value: bool) -> None:
    settings = load(Settings, {**REQUIRED, "s3_secure": text, "postgres_port": "6000"})
    assert (settings.s3_secure, settings.postgres_port) == (value, 6000)


BOUNDS = {
    "workers": (1, 32),
    "fetch_threads": (1, 256),
    "batch_size": (1, 1000),
    "segment_keys": (1, 100_000),
    "run_deadline": (1, 86_400),
    "s3_timeout": (1, 19),
    "postgres_port": (1, 65_535),
    "postgres_timeout": (1, 3600),
}


@pytest.mark.parametrize(("name", "minimum", "maximum"), [(name, *bounds) for name, bounds in BOUNDS.items()])
def test_the_bounds_of_a_number_are_valid_and_values_beyond_them_are_not(name: str, minimum: int, maximum: int) -> None:
    for valid in (minimum, maximum):
        assert getattr(load(Settings, {**REQUIRED, name: str(valid)}), name) == valid
    for invalid in (minimum - 1, maximum + 1):
        with pytest.raises(SettingError, match=f"invalid {name}='{invalid}': .* from {minimum} to {maximum}"):
            load(Settings, {**REQUIRED, name: str(invalid)})


def test_every_number_has_tested_bounds() -> None:
    assert BOUNDS.keys() == {field.name for field in dataclasses.fields(Settings) if type(field.default) is int}


def test_settings_cannot_be_changed() -> None:
    settings = load(PostgresSettings, REQUIRED)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.postgres_host = "other"  # type: ignore[misc]


def test_a_secret_is_neither_serialised_nor_formatted() -> None:
    settings = load(Settings, REQUIRED)
    for dump in (json.dumps, pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            dump(settings.s3_secret_key)
    with pytest.raises(TypeError):
        dataclasses.asdict(settings)
    assert "hidden" not in f"{settings.s3_secret_key} {settings} {vars(settings)}"
    assert json.dumps(vars(settings), default=str).count("Secret('***')") == 4


def test_the_repr_shows_no_secret() -> None:
    text = repr(load(Settings, REQUIRED))
    assert "hidden" not in text
    assert "db.example" in text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("postgres_port", "http", "a whole number from 1 to 65535"),
        ("postgres_port", "-1", "a whole number from 1 to 65535"),
        ("postgres_port", "²", "a whole number from 1 to 65535"),
        ("fetch_threads", "9" * 5000, "a whole number from 1 to 256"),
        ("s3_secure", "yes", "true or false"),
        ("postgres_sslmode", "prefer", "one of disable, require, verify-full"),
        ("s3_endpoint", "https://s3.example", "host or host:port alone"),
        ("source_bucket", "Src", "3 to 63 lower-case letters"),
        ("result_bucket", "Res", "3 to 63 lower-case letters"),
    ],
)
def test_an_invalid_setting_is_an_error_with_the_expected_value(name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingError) as raised:
        load(Settings, {**REQUIRED, name: value})
    assert str(raised.value).startswith(f"invalid {name}={value[:40]!r}"[:40])
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("name", "valid", "invalid"),
    [
        (
            "s3_endpoint",
            ("s3", "S3.example:9000", "s3_store-1:1", "127.0.0.1:65535", "[::1]:9000", "[2001:DB8::1]"),
            ("http://s3", "s3/", "s3:9000/path", "s3:", "s3:x", "s3:123456", ":9000", "::1", "[::1", "s 3", "ü"),
        ),
        (
            "source_bucket",
            ("src", "a.b", "1-2", "a" * 63),
            ("ab", "a" * 64, "-ab", "ab-", ".ab", "ab.", "aBc", "a_b", "a/b", "äbc"),
        ),
    ],
)
def test_endpoints_and_buckets_have_a_fixed_format(name: str, valid: tuple[str, ...], invalid: tuple[str, ...]) -> None:
    for text in valid:
        assert getattr(load(Settings, {**REQUIRED, name: text}), name) == text
    for text in invalid:
        with pytest.raises(SettingError, match=f"invalid {name}="):
            load(Settings, {**REQUIRED, name: text})


def test_an_error_does_not_show_a_password_in_the_endpoint() -> None:
    with pytest.raises(SettingError, match=r"invalid s3_endpoint='\*\*\*': expected host or host:port alone"):
        load(Settings, {**REQUIRED, "s3_endpoint": "https://user:secret@s3.example"})


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_the_error_for_a_missing_setting_names_it(name: str, value: str | None) -> None:
    environ = {**REQUIRED, name: value or ""}
    if value is None:
        del environ[name]
    with pytest.raises(SettingError, match=f"{name} is required"):
        load(Settings, environ)


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-file\n", encoding="utf-8")
    environ = {**REQUIRED, "s3_secret_key": "", "s3_secret_key_file": str(file)}
    assert load(S3Settings, environ).s3_secret_key.reveal() == "from-file"


def test_an_invalid_secret_file_is_an_error_without_the_secret(tmp_path: Path) -> None:
    missing = {**REQUIRED, "s3_secret_key": "", "s3_secret_key_file": str(tmp_path / "none")}
    with pytest.raises(SettingError, match=r"s3_secret_key_file='.*none' cannot be read"):
        load(Settings, missing)
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(SettingError, match=r"s3_secret_key_file='.*binary' cannot be read"):
        load(Settings, {**missing, "s3_secret_key_file": str(tmp_path / "binary")})
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    with pytest.raises(SettingError, match="is empty"):
        load(Settings, {**missing, "s3_secret_key_file": str(tmp_path / "empty")})
    with pytest.raises(SettingError, match="s3_secret_key and s3_secret_key_file are both set") as raised:
        load(Settings, {**missing, "s3_secret_key": "hidden"})
    assert "hidden" not in str(raised.value)


def test_the_defaults_are_valid_values() -> None:
    texts = {
        field.name: str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        for field in dataclasses.fields(Settings)
        if field.default is not dataclasses.MISSING
    }
    assert load(Settings, {**texts, **REQUIRED}) == load(Settings, REQUIRED)


def test_the_stream_deadline_must_be_positive_and_less_than_the_postgres_timeout() -> None:
    for valid in ("1", "39"):
        query_load(QuerySettings, {**REQUIRED, "stream_deadline": valid})
    with pytest.raises(QuerySettingError, match="a whole number from 1 to 86400"):
        query_load(QuerySettings, {**REQUIRED, "stream_deadline": "0"})
    for invalid in ("40", "41"):
        expected = f"invalid stream_deadline='{invalid}': expected less than postgres_timeout=40"
        with pytest.raises(QuerySettingError, match=expected):
            query_load(QuerySettings, {**REQUIRED, "stream_deadline": invalid})


def test_a_function_requires_a_token_unless_auth_is_none() -> None:
    without_token = {name: value for name, value in REQUIRED.items() if name != "api_token"}
    for environ in (without_token, {**without_token, "auth": "token"}, {**REQUIRED, "api_token": " "}):
        with pytest.raises(SettingError, match=r"api_token is required with auth=token .* auth=none gives access"):
            load(Settings, environ)
        with pytest.raises(QuerySettingError, match="api_token is required"):
            query_load(QuerySettings, environ)
    for environ in (without_token, REQUIRED):
        assert load(Settings, {**environ, "auth": "none"}).auth == "none"
    with pytest.raises(SettingError, match=r"invalid auth='None': expected one of token, none"):
        load(Settings, {**REQUIRED, "auth": "None"})


@pytest.mark.parametrize(
    ("ca_setting", "tls_off"), [("s3_ca_file", "s3_secure=false"), ("postgres_ca_file", "postgres_sslmode=disable")]
)
def test_a_ca_file_without_tls_is_an_error(ca_setting: str, tls_off: str) -> None:
    name, value = tls_off.split("=")
    with pytest.raises(SettingError, match=f"{ca_setting} is set, but {tls_off} disables TLS"):
        load(Settings, {**REQUIRED, ca_setting: "/ca.pem", name: value})
