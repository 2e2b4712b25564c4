"""The log: one JSON object per line, on standard error, which the watchdog reads."""

import json
import sys

from .version import VERSION

_LIMIT = 2000
"""Characters of a field that are logged: the watchdog stops reading at a line of 64 KiB, and a full pipe blocks."""


def log(level: str, event: str, **fields: object) -> None:
    """Write one line. Fields that are None are omitted."""
    present = {
        name: value[:_LIMIT] if isinstance(value, str) else value for name, value in fields.items() if value is not None
    }
    line = json.dumps({"level": level, "event": event, **present, "version": VERSION}, default=str)
    sys.stderr.write(line + "\n")
