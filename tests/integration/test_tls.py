"""Connections to both backends require TLS with a valid certificate unless configured otherwise.

The servers are the stack's own, behind a test proxy that terminates TLS.
"""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.errors import SettingError, StorageError, Unavailable
from process_data.shared.storage.objects import Objects
from process_data.shared.storage.pool import Pool
from process_data.shared.storage.settings import PostgresSettings, S3Settings, load
from process_data.shared.storage.tls import make_context

from tests.stack import Stack
from tests.tls import SSL_REQUEST, Authority, Proxy, tls_proxy


@pytest.fixture(scope="module")
def trusted_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "trusted")


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "other")


@contextmanager
def postgres(stack: Stack, context: ssl.SSLContext | None) -> Iterator[tuple[Proxy, dict[str, str]]]:
    """Yield a proxy for PostgreSQL, and process-data's settings for it, with the defaults for TLS."""
    settings = dict(stack.process_settings)
    upstream = settings["postgres_host"], int(settings["postgres_port"])
    with tls_proxy(upstream, context, is_postgres=True) as proxy:
        del settings["postgres_sslmode"]
        yield proxy, settings | {"postgres_host": "localhost", "postgres_port": str(proxy.port)}


@contextmanager
def s3(stack: Stack, context: ssl.SSLContext | None) -> Iterator[tuple[Proxy, dict[str, str]]]:
    """Yield a proxy for S3, and process-data's settings for it, with the defaults for TLS."""
    settings = dict(stack.process_settings)
    host, _, port = settings["s3_endpoint"].rpartition(":")
    with tls_proxy((host, int(port)), context) as proxy:
        del settings["s3_secure"]
        yield proxy, settings | {"s3_endpoint": f"localhost:{proxy.port}"}


def connect(settings: Mapping[str, str], **others: str) -> Connection:
    return Connection(load(PostgresSettings, {**settings, **others}))


def list_page(settings: Mapping[str, str], **others: str) -> list[str]:
    objects = Objects(load(S3Settings, {**settings, **others}))
    return [info.key for info in objects.list_page(settings["source_bucket"]).objects]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_valid_certificate_is_accepted(rollcall: Stack, trusted_ca: Authority, host: str) -> None:
    rollcall.bucket.put_person("1")
    context = trusted_ca.certify(host)
    with postgres(rollcall, context) as (proxy, settings):
        with connect(settings, postgres_host=host, postgres_ca_file=str(trusted_ca.file)) as connection:
            assert connection.run("select 1") == [[1]]
        assert settings["postgres_user"].encode() in proxy.received
    with s3(rollcall, context) as (proxy, settings):
        assert list_page(settings, s3_endpoint=f"{host}:{proxy.port}", s3_ca_file=str(trusted_ca.file)) == ["1.csv"]


INVALID_CERTIFICATES = pytest.mark.parametrize(
    ("name", "days", "ca", "reason"),
    [
        ("elsewhere.example", 2, "trusted", "Hostname mismatch, certificate is not valid for 'localhost'"),
        ("localhost", -1, "trusted", "certificate has expired"),
        ("localhost", 2, "other", "unable to get local issuer certificate"),
        ("localhost", 2, "", "unable to get local issuer certificate"),
    ],
    ids=["wrong name", "expired", "unknown authority", "no CA file"],
)


@INVALID_CERTIFICATES
@pytest.mark.parametrize(
    ("serve", "use", "setting", "service"),
    [(postgres, connect, "postgres_ca_file", "postgresql"), (s3, list_page, "s3_ca_file", "s3")],
    ids=["postgresql", "s3"],
)
def test_a_server_with_an_invalid_certificate_receives_no_data(
    stack: Stack, trusted_ca: Authority, other_ca: Authority, name: str, days: int, ca: str, reason: str,
    serve: Callable[..., Any], use: Callable[..., object], setting: str, service: str,
) -> None:  # fmt: skip
    files = {"trusted": str(trusted_ca.file), "other": str(other_ca.file), "": ""}
    with serve(stack, trusted_ca.certify(name, days=days)) as (proxy, settings):
        with pytest.raises(Unavailable, match=f"localhost:{proxy.port} cannot be reached: .*{reason}\\.?$") as raised:
            use(settings, **{setting: files[ca]})
        assert raised.value.service == service
        assert proxy.received == b""


@pytest.mark.parametrize("sslmode", ["", "verify-full", "require"])
def test_a_postgresql_server_without_tls_receives_no_password(stack: Stack, sslmode: str) -> None:
    with postgres(stack, None) as (proxy, settings):
        with pytest.raises(Unavailable, match=f"localhost:{proxy.port} cannot be reached: Server refuses SSL"):
            connect(settings, postgres_sslmode=sslmode)
        assert proxy.received == SSL_REQUEST, "neither password nor user name may be sent"


def test_an_s3_server_without_tls_receives_no_access_key(stack: Stack) -> None:
    with s3(stack, None) as (proxy, settings):
        with pytest.raises(Unavailable, match=f"localhost:{proxy.port} cannot be reached: SSLError: [^\\]]*$"):
            list_page(settings)
        assert settings["s3_access_key"].encode() not in proxy.received


def test_sslmode_require_checks_the_chain_only_with_a_ca_file_and_never_the_name(
    stack: Stack, trusted_ca: Authority, other_ca: Authority
) -> None:
    with postgres(stack, trusted_ca.certify("elsewhere.example")) as (_, settings):
        for ca_file in ("", str(trusted_ca.file)):
            with connect(settings, postgres_sslmode="require", postgres_ca_file=ca_file) as connection:
                assert connection.run("select 1") == [[1]]
    with postgres(stack, trusted_ca.certify("elsewhere.example")) as (proxy, settings):
        with pytest.raises(Unavailable, match="unable to get local issuer certificate"):
            connect(settings, postgres_sslmode="require", postgres_ca_file=str(other_ca.file))
        assert proxy.received == b""


def test_a_ca_file_is_trusted_instead_of_the_default(trusted_ca: Authority, other_ca: Authority) -> None:
    with_file = make_context("s3_ca_file", str(trusted_ca.file), str(other_ca.file))
    default = make_context("s3_ca_file", "", str(other_ca.file))
    names = [[certificate["subject"] for certificate in context.get_ca_certs()] for context in (with_file, default)]
    assert names == [[((("commonName", "trusted"),),)], [((("commonName", "other"),),)]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "no certificate or crl found"),
        (b"no certificate", "no certificate or crl found"),
    ],
)
def test_an_invalid_ca_file_is_a_setting_error(
    stack: Stack, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with postgres(stack, None) as (proxy, settings):
        for setting, use in (("postgres_ca_file", connect), ("s3_ca_file", list_page)):
            with pytest.raises(SettingError, match=f"^{setting}='{file}' cannot be used: {reason}; expected"):
                use({**settings, "s3_secure": "true"}, **{setting: str(file)})
        assert proxy.received == b""


def test_pooled_sessions_work_over_tls(stack: Stack, trusted_ca: Authority) -> None:
    with postgres(stack, trusted_ca.certify("localhost")) as (_, settings):
        pool = Pool(load(PostgresSettings, settings | {"postgres_ca_file": str(trusted_ca.file)}))
        copy = "copy (select generate_series(1, 100000)) to stdout"
        with pool.connection() as connection, connection.copy_out(copy) as chunks:
            assert sum(chunk.count(b"\n") for chunk in chunks) == 100_000
        with pool.connection() as again:
            assert again is connection
            [[pid]] = again.run("select pg_backend_pid()")
            with again.copy_out(copy) as chunks:
                next(chunks)
        with pool.connection() as other:
            assert other is not again
            [[other_pid]] = other.run("select pg_backend_pid()")
        stack.wait_until(lambda: not stack.sql("select from pg_stat_activity where pid = :pid", pid=pid))
        stack.sql("select pg_terminate_backend(:pid)", pid=other_pid)
        with pool.connection() as third:
            assert third.run("select 1") == [[1]]
        with pytest.raises(StorageError), pool.connection() as last:
            last.run("select 1 / 0")
        pool.close()
