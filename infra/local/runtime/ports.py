"""Ports of this machine's loopback interface."""

import errno
import socket
from contextlib import ExitStack

from .errors import LocalError

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports that no one listens on now; another process may take one before it is used."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]


def is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def reserve(port: int) -> socket.socket:
    """A socket bound to `port`, or to a free one when it is 0, for a server to listen on later."""
    if not 0 <= port <= 65535:
        raise LocalError(f"--port {port} is not allowed: a number from 0 (a free port) to 65535")
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((LOOPBACK, port))
        held.listen(128)  # binding alone does not claim the port on every system
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            why = "is taken by another program"
        elif error.errno == errno.EACCES:
            why = "is not open to this user"
        else:
            raise
        raise LocalError(f"port {port} {why}: choose another with --port N (0 takes a free one)") from error
    return held
