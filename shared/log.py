"""Log lines: one JSON object each, on standard error, where the watchdog picks them up."""

import json
import sys

from .version import VERSION

_LIMIT = 2000
"""Characters of a text that are written: after a line of 64 KiB the watchdog reads no more, and the pipe fills up."""


def log(level: str, event: str, **fields: object) -> None:
    """Write one line. Fields that are None are left out."""
    present = {
        name: value[:_LIMIT] if isinstance(value, str) else value for name, value in fields.items() if value is not None
    }
    line = json.dumps({"level": level, "event": event, **present, "version": VERSION}, default=str)
    sys.stderr.write(line + "\n")
