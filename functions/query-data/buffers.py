"""The server's buffers: how much of an answer waits in memory for a client that is slower than the database."""

from waitress.adjustments import Adjustments

MEBIBYTE = 1024 * 1024


def bound_buffers() -> None:
    """Let at most a MiB an answer wait: a buffer keeps what was sent too, and by default up to 16 MiB of it.

    The template starts waitress with its defaults after it has imported the handler, so they are changed here.
    """
    Adjustments.outbuf_high_watermark = MEBIBYTE
