"""TLS for tests: a private authority, and a proxy that ends TLS in front of a server that has none.

The S3 server of the local stack speaks plain HTTP, and its PostgreSQL is built without OpenSSL. The proxy stands in
for their TLS alone: it answers PostgreSQL's SSLRequest itself, and passes everything behind the handshake on.
"""

import select
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""What a client of PostgreSQL sends first when it wants TLS."""

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
_CHUNK = 64 * 1024


class Authority:
    """An authority of its own, made by the openssl command in `directory`. `file` is its certificate."""

    def __init__(self, directory: Path) -> None:
        if not shutil.which("openssl"):
            pytest.skip("no openssl on the PATH to make certificates with")
        directory.mkdir()
        self._directory, self.file = directory, directory / "ca.pem"
        subject = ["-subj", f"/CN={directory.name}", "-addext", "keyUsage=critical,keyCertSign"]
        self._openssl("req", "-x509", *_KEY, "-keyout", "ca.key", "-out", self.file.name, "-days", "2", *subject)

    def certify(self, name: str, *, days: int = 2) -> ssl.SSLContext:
        """A server's context with a certificate for `name` (such as DNS:localhost), expired when `days` is negative."""
        base = name.replace(":", "_") + f"{days}"
        (self._directory / f"{base}.ext").write_text(f"subjectAltName={name}\nauthorityKeyIdentifier=keyid\n")
        self._openssl("req", *_KEY, "-keyout", f"{base}.key", "-out", f"{base}.csr", "-subj", "/CN=server")
        self._openssl(
            *("x509", "-req", "-in", f"{base}.csr", "-CA", self.file.name, "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", str(days), "-extfile", f"{base}.ext", "-out", f"{base}.pem"),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._directory / f"{base}.pem", self._directory / f"{base}.key")
        return context

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self._directory, check=True, capture_output=True)


@dataclass
class Proxy:
    """`received` is what came from clients as the server behind it would read it: within TLS, decrypted."""

    port: int
    received: bytearray = field(default_factory=bytearray)


@contextmanager
def terminating(
    upstream: tuple[str, int], context: ssl.SSLContext | None, *, is_postgres: bool = False
) -> Iterator[Proxy]:
    """A port of loopback that ends TLS and passes everything on to `upstream`; without a context it passes all on."""
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
    """Pass on in both directions, in one thread as a TLS connection wants it, until either side ends."""
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
