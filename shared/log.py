"""The log: one JSON object per line, on standard error, which the watchdog reads."""

import json
import sys

from .version import VERSION

_MAX_LENGTH = 2000
"""The maximum length of a logged string. By default the watchdog stops reading the log at a line of 64 KiB. The pipe
then fills up and blocks the function."""


def log(level: str, event: str, **fields: object) -> None:
    """Write one line. Fields that are None are omitted; long strings are truncated."""
    fields = {
        name: value[:_MAX_LENGTH] if isinstance(value, str) else value
        for name, value in fields.items()
        if value is not None
    }
    line = json.dumps({"level": level, "event": event, **fields, "version": VERSION}, default=str)
    sys.stderr.write(line + "\n")
