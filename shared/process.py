"""What a function's process is set up with, once, while its handler is imported."""

import gc
import logging

from .drain import Drain


def set_up() -> Drain:
    """Set the process up for serving; to be called by the main thread, which is the one that imports a handler."""
    # A line for every request that waits, and the stack trace of a response that was cut; every repeated request
    logging.getLogger("waitress").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    gc.freeze()  # what was imported stays: looking through it again and again took a fifth of a listing
    return Drain().on_sigterm()
