"""Process-wide set-up, done once while the handler is imported."""

import gc
import logging
import signal
from threading import Event

from waitress.adjustments import Adjustments

MEBIBYTE = 1024 * 1024

_MAX_CONNECTIONS = 500  # so high that hundreds of slow or idle clients do not keep others out
_MAX_BUFFERED = MEBIBYTE  # bytes of a response that are buffered for a slow client; beyond that, the thread waits
# Bytes of a body and of a response that a connection keeps in memory: up to 62.5 MiB for all connections together.
# Longer ones go to temporary files.
_BODY_IN_MEMORY, _RESPONSE_IN_MEMORY = 8 * 1024, 120 * 1024


def set_up(*, threads: int, max_body: int) -> Event:
    """Set the process up to serve `threads` requests at a time. Must be called by the main thread.

    waitress rejects a body of `max_body` bytes or more with 413.

    Returns an event that SIGTERM sets. SIGTERM does not end the process: of-watchdog still sends it requests for
    `healthcheck_interval`, waits for their responses, and then ends it.
    """
    # waitress logs every request that waits, and a stack trace of every interrupted response. urllib3 logs every retry.
    logging.getLogger("waitress").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    gc.freeze()  # else garbage collections, which traverse all modules, take a fifth of a bucket listing's time
    # The template imports the handler and then starts waitress without these options, so their defaults are changed.
    Adjustments.threads = threads
    Adjustments.connection_limit = _MAX_CONNECTIONS
    Adjustments.asyncore_use_poll = True  # select() cannot handle file descriptors of 1,024 and above
    Adjustments.max_request_body_size = max_body
    Adjustments.inbuf_overflow = _BODY_IN_MEMORY
    Adjustments.outbuf_overflow = _RESPONSE_IN_MEMORY
    Adjustments.outbuf_high_watermark = _MAX_BUFFERED
    stopping = Event()
    signal.signal(signal.SIGTERM, lambda _signum, _frame: stopping.set())
    return stopping
