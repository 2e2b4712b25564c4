"""TLS for tests: a private certificate authority, and a proxy that terminates TLS for a server without it.

The S3 server of the local stack speaks plain HTTP, and its PostgreSQL is built without OpenSSL. The proxy only adds
TLS: it responds to PostgreSQL's SSLRequest itself, and forwards everything after the handshake.
"""

import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""The first message of a PostgreSQL client that requests TLS."""

_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
_CHUNK = 64 * 1024


class Authority:
    """A certificate authority. `file` has its certificate."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory, self.file = directory, directory / "ca.pem"
        self._name, self._key = _name(directory.name), ec.generate_private_key(ec.SECP256R1())
        usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True}
        certificate = (
            self._builder(self._name, self._key.public_key(), days=2)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def certify(self, host: str, *, days: int = 2) -> ssl.SSLContext:
        """Return a server context with a certificate for `host` (a name or an address), expired if `days` < 0."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(_name("server"), key.public_key(), days=days)
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        file = self._directory / f"{host}{days}.pem"
        file.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + certificate.public_bytes(Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int) -> x509.CertificateBuilder:
        """Return a builder for a certificate that expires in `days` days."""
        end = datetime.now(UTC) + timedelta(days=days)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=30))
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Proxy:
    """A proxy's port, and the data that it `received` from clients, decrypted if it terminates TLS."""

    port: int
    received: bytearray = field(default_factory=bytearray)


@contextmanager
def tls_proxy(
    upstream: tuple[str, int], context: ssl.SSLContext | None, *, is_postgres: bool = False
) -> Iterator[Proxy]:
    """Listen on loopback, terminate TLS and forward to `upstream`. Without a context, only forward."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        proxy = Proxy(listener.getsockname()[1])

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    Thread(target=serve, args=(client,), daemon=True).start()

        def serve(client: socket.socket) -> None:
            with suppress(OSError), client, socket.create_connection(upstream) as server:
                if context is None:
                    _relay(client, server, proxy)
                    return
                if is_postgres:
                    assert client.recv(len(SSL_REQUEST)) == SSL_REQUEST
                    client.sendall(b"S")
                with context.wrap_socket(client, server_side=True) as encrypted:
                    _relay(encrypted, server, proxy)

        Thread(target=accept, daemon=True).start()
        try:
            yield proxy
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _relay(client: socket.socket, server: socket.socket, proxy: Proxy) -> None:
    """Forward in both directions until either side ends. One thread does both, as two must not share an SSLSocket."""
    while True:
        is_pending = isinstance(client, ssl.SSLSocket) and client.pending()
        ready = [client] if is_pending else select.select([client, server], [], [])[0]
        for source in ready:
            data = source.recv(_CHUNK)
            if not data:
                return
            if source is client:
                proxy.received += data
            (server if source is client else client).sendall(data)
