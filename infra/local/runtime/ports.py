"""Ports of the loopback interface."""

import errno
import fcntl
import socket
from contextlib import ExitStack

from ..errors import LocalError

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return ports that are free now. Another process may still bind one before the caller does."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for candidate in sockets:
            candidate.bind((LOOPBACK, 0))
        return [candidate.getsockname()[1] for candidate in sockets]


def bound_socket() -> socket.socket:
    """Return a socket that is bound to a free port, for a process that inherits it and listens on it.

    The port is taken from now on. With `free_ports`, another process could bind it before the server does.
    """
    with socket.socket() as created:  # its descriptor may be 0, 1 or 2, which a child process replaces
        bound = socket.socket(fileno=fcntl.fcntl(created, fcntl.F_DUPFD_CLOEXEC, 3))
    bound.bind((LOOPBACK, 0))
    return bound


def is_free(port: int) -> bool:
    with socket.socket() as candidate:
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def reserve(port: int) -> socket.socket:
    """Return a socket that listens on the port, for a server that starts later. Port 0 chooses a free one."""
    if not 0 <= port <= 65535:
        raise LocalError(f"invalid port {port}: expected 0 (a free port) to 65535")
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reserved.bind((LOOPBACK, port))
        reserved.listen(128)  # on some systems, binding alone does not claim the port
    except OSError as error:
        reserved.close()
        if error.errno == errno.EADDRINUSE:
            reason = "is in use by another program"
        elif error.errno == errno.EACCES:
            reason = "is not available to this user"
        else:
            raise
        raise LocalError(f"port {port} {reason}: choose another with --port N (0 chooses a free one)") from error
    return reserved
