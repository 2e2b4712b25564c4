"""Exceptions of minio, urllib3 and pg8000 become storage errors."""

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from xml.etree.ElementTree import ParseError

import minio.error
import pg8000.exceptions
import pytest
import urllib3
import urllib3.exceptions
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.errors import AccessDenied, SchemaMissing, StorageError, Unavailable
from process_data.shared.storage.objects import Objects
from process_data.shared.storage.settings import PostgresSettings, S3Settings, Secret

NEVER_RAISED = {
    urllib3.exceptions.ProxySchemeUnsupported,  # no proxy is ever configured
    minio.error.MinioAdminException,  # the admin client is not used
}


def exceptions(module: ModuleType) -> list[type[Exception]]:
    """Return the exceptions that a module defines."""
    return [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Exception) and not issubclass(member, Warning) and member.__module__ == module.__name__
        if member not in NEVER_RAISED
    ]


def make(kind: type[Exception]) -> Exception:
    """Create an instance, if possible without calling its constructor."""
    if kind is urllib3.exceptions.IncompleteRead:
        return urllib3.exceptions.IncompleteRead(1, 2)
    if kind is urllib3.exceptions.InvalidChunkLength:
        return urllib3.exceptions.InvalidChunkLength(urllib3.HTTPResponse(), b"x")
    return kind.__new__(kind, "boom")


@pytest.fixture
def objects() -> Objects:
    settings = S3Settings(s3_endpoint="127.0.0.1:1", s3_access_key=Secret("a"), s3_secret_key=Secret("b"))
    return Objects(settings)


@pytest.fixture
def connection() -> Connection:
    connection = Connection.__new__(Connection)  # only `_translate_errors` is tested, so no server is needed
    connection._server, connection.broken = "PostgreSQL at nowhere", False
    return connection


@pytest.mark.parametrize("kind", [*exceptions(urllib3.exceptions), TimeoutError, ConnectionResetError, OSError])
def test_s3_network_errors_become_unavailable(objects: Objects, kind: type[Exception]) -> None:
    with pytest.raises(Unavailable) as raised, objects._translate_errors("src", "1.csv"):
        raise make(kind)
    assert raised.value.service == "s3"


def minio_errors() -> Iterator[Any]:
    for kind in exceptions(minio.error):
        if kind is minio.error.S3Error:
            for status, code, expected in (
                (404, "NoSuchBucket", AccessDenied),
                (403, "AccessDenied", AccessDenied),
                (503, "SlowDown", Unavailable),
                (500, "InternalError", Unavailable),
                (408, "RequestTimeout", Unavailable),
                (429, "TooManyRequests", Unavailable),
                (499, "ClientClosedRequest", AccessDenied),
                (404, "NoSuchUpload", Unavailable),  # if minio aborts an upload that was completed
            ):
                response = urllib3.HTTPResponse(status=status)
                error = minio.error.S3Error(response, code, "boom", None, None, None)
                yield pytest.param(error, expected, id=code)
        elif kind is minio.error.ServerError:
            yield pytest.param(kind("boom", 502), Unavailable, id="ServerError")
        elif kind is minio.error.InvalidResponseError:
            yield pytest.param(kind(502, "text/html", "<html>"), Unavailable, id="InvalidResponseError")
            yield pytest.param(ParseError("no element found"), Unavailable, id="malformed XML")
            yield pytest.param(ValueError("XML element <UploadId> not found"), Unavailable, id="incomplete XML")
        else:
            yield pytest.param(make(kind), StorageError, id=kind.__name__)


@pytest.mark.parametrize(("error", "expected"), list(minio_errors()))
def test_every_minio_error_becomes_a_storage_error(
    objects: Objects, error: Exception, expected: type[Exception]
) -> None:
    with pytest.raises(StorageError) as raised, objects._translate_errors("src", "1.csv"):
        raise error
    assert type(raised.value) is expected
    assert getattr(raised.value, "service", "s3") == "s3"


@pytest.mark.parametrize(("key", "place"), [("1.csv", "src/1.csv"), ("", "bucket src")])
def test_an_s3_error_names_the_status_the_code_and_the_place(objects: Objects, key: str, place: str) -> None:
    for error, name in (
        (minio.error.S3Error(urllib3.HTTPResponse(status=403), "AccessDenied", "boom", None, None, None),
         "403 AccessDenied"),
        (minio.error.InvalidResponseError(502, "text/html", "<html>"), "502"),
    ):  # fmt: skip
        with pytest.raises(StorageError) as raised, objects._translate_errors("src", key):
            raise error
        assert str(raised.value) == f"S3 at 127.0.0.1:1 returned {name} for {place}"


@pytest.mark.parametrize("kind", [*exceptions(pg8000.exceptions), TimeoutError, OSError, UnicodeError])
def test_every_pg8000_error_becomes_a_storage_error(connection: Connection, kind: type[Exception]) -> None:
    """Only a DatabaseError, which the server sent, leaves the session usable, unless its SQLSTATE says otherwise."""
    with pytest.raises(StorageError) as raised, connection._translate_errors():
        raise make(kind)
    assert connection.broken == (not issubclass(kind, pg8000.exceptions.DatabaseError))
    assert getattr(raised.value, "service", "postgresql") == "postgresql"


@pytest.mark.parametrize(
    ("code", "expected", "broken"),
    [
        ("08006", Unavailable, True),
        ("53100", Unavailable, True),  # a disk is full
        ("53300", Unavailable, True),
        ("57014", Unavailable, True),
        ("25P03", Unavailable, True),  # a transaction was idle for too long, as in a frozen process
        ("57P01", Unavailable, True),
        ("57P03", Unavailable, True),
        ("58030", Unavailable, True),  # a disk is broken
        ("40001", Unavailable, True),
        ("40P01", Unavailable, True),
        ("55P03", Unavailable, True),
        ("28P01", AccessDenied, False),
        ("3D000", AccessDenied, False),
        ("42501", AccessDenied, False),
        ("25006", AccessDenied, False),  # the server has become a standby
        ("42P01", SchemaMissing, False),
        ("3F000", SchemaMissing, False),
        ("42703", SchemaMissing, False),
        ("42883", SchemaMissing, False),
        ("42601", StorageError, False),
        ("25P02", StorageError, False),
        ("23505", StorageError, False),
        ("22021", StorageError, False),
    ],
)
def test_sqlstates_become_errors_without_values_of_rows(
    connection: Connection, code: str, expected: type[Exception], broken: bool
) -> None:
    with pytest.raises(StorageError) as raised, connection._translate_errors():
        raise pg8000.exceptions.DatabaseError({"C": code, "M": "what it says", "D": "a row's values"})
    assert type(raised.value) is expected
    assert "what it says" in str(raised.value)
    assert "a row's values" not in str(raised.value)
    assert connection.broken is broken


def test_a_host_name_that_cannot_be_encoded_is_unavailable() -> None:
    settings = PostgresSettings(postgres_host="db..example", postgres_user="u", postgres_password=Secret("hidden"))
    with pytest.raises(Unavailable, match=r"PostgreSQL at db\.\.example:5432 cannot be reached"):
        Connection(settings)


def test_an_unreachable_server_is_unavailable(objects: Objects) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 cannot be reached.*refused"):
        objects.list_page("src")
    settings = PostgresSettings(
        postgres_host="127.0.0.1", postgres_port=1, postgres_user="u", postgres_password=Secret("hidden")
    )
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 cannot be reached") as raised:
        Connection(settings)
    assert "hidden" not in str(raised.value)
