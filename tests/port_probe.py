"""Connections to local ports, without credentials or client certificates."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""What a gRPC client sends first: HTTP/2's preface and an empty SETTINGS frame. The server sends such a frame too."""


def unverified_tls(*protocols: str) -> ssl.SSLContext:
    """Return a TLS context that accepts any server and has no client certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(protocols)
    return context


@contextmanager
def connection(port: int, context: ssl.SSLContext | None) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        if context is None:
            yield plain
        else:
            with context.wrap_socket(plain) as encrypted:
                yield encrypted


def speaks_grpc(port: int) -> bool:
    """Whether the port accepts HTTP/2, which gRPC needs, in plain text or over TLS without a client certificate."""
    for context in (None, unverified_tls("h2")):
        with suppress(OSError), connection(port, context) as stream:
            stream.sendall(H2_PREFACE)
            if stream.recv(9)[3:4] == b"\x04":  # a SETTINGS frame
                return True
    return False
