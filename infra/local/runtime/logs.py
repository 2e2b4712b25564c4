"""The processes' log files, written by `guard.py`: each line is `<UTC time> <pid> <text>`."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

_POLL_INTERVAL = 0.2


@dataclass(frozen=True)
class Line:
    """One line of a process's output."""

    logged_at: str  # UTC, ISO 8601 with microseconds: sorts as text
    pid: str
    text: str


def read_lines(path: Path, *, since: str = "", pid: str = "", last: int = 0, follow: float = 0) -> Iterator[Line]:
    """Yield the lines since `since` (the last `last` of them, if not 0), then new lines for `follow` seconds.

    With `pid`, yield only those of that process.
    """
    deadline = time.monotonic() + follow
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        existing = (line for line in _complete_lines(file, pid) if line.logged_at >= since)
        yield from deque(existing, last) if last > 0 else existing
        while time.monotonic() < deadline:
            yield from _complete_lines(file, pid)
            time.sleep(_POLL_INTERVAL)


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _complete_lines(file: IO[str], pid: str) -> Iterator[Line]:
    """Yield the lines from the current position; with `pid`, only those of that process.

    An incomplete last line is left for the next call.
    """
    while True:
        position = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(position)
            return
        logged_at, _, rest = line.rstrip("\n").partition(" ")
        writer, _, text = rest.partition(" ")
        if pid in ("", writer):
            yield Line(logged_at, writer, text)
