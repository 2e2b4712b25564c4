"""What a function's process is set up with, once, while its handler is imported."""

import gc
import logging
import signal
from threading import Event

from waitress.adjustments import Adjustments

MEBIBYTE = 1024 * 1024

_MAX_CONNECTIONS = 500  # slow and idle ones; requests wait for none of them
_MAX_BUFFERED = MEBIBYTE  # bytes of a response that wait for a slow client
# Bytes of a body and of a response that a connection keeps in memory. The rest is in a temporary file, so slow
# clients, as many as there are connections, cost 64 MiB at most.
_BODY_IN_MEMORY, _RESPONSE_IN_MEMORY = 8 * 1024, 120 * 1024


def set_up(*, threads: int, max_body: int) -> Event:
    """Set the process up to serve `threads` requests at the same time. Must be called by the main thread.

    A body of more than `max_body` bytes is not read, and gets a 413 of the server. Each thread may hold a body.

    The event is set by SIGTERM. The process goes on serving then: of-watchdog sends it requests for another
    `healthcheck_interval`, waits for their responses, and ends the process with itself.
    """
    # A line for every request that waits, and the stack trace of a response that was cut; every repeated request
    logging.getLogger("waitress").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    gc.freeze()  # what was imported stays: looking through it again and again took a fifth of a listing
    # The template starts waitress with its defaults after it has imported the handler.
    Adjustments.threads = threads
    Adjustments.connection_limit = _MAX_CONNECTIONS
    Adjustments.asyncore_use_poll = True  # select() takes 1,024 file descriptors at most
    Adjustments.max_request_body_size = max_body
    Adjustments.inbuf_overflow = _BODY_IN_MEMORY
    Adjustments.outbuf_overflow = _RESPONSE_IN_MEMORY
    Adjustments.outbuf_high_watermark = _MAX_BUFFERED
    stopping = Event()
    signal.signal(signal.SIGTERM, lambda _signum, _frame: stopping.set())
    return stopping
