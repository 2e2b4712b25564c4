"""What the processes printed: files of lines `<UTC time> <pid> <text>`, as the guard writes them."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

_PAUSE = 0.2


@dataclass(frozen=True)
class Line:
    """One line of a process's output."""

    at: str  # UTC, ISO 8601 with microseconds: sorts as text
    pid: str
    text: str


def read_lines(path: Path, *, since: str = "", last: int = 0, follow: float = 0) -> Iterator[Line]:
    """The lines not older than `since`; only the `last` ones unless that is 0; then new ones for `follow` seconds."""
    until = time.monotonic() + follow
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        present = (line for line in _whole_lines(file) if line.at >= since)
        yield from deque(present, last) if last > 0 else present
        while time.monotonic() < until:
            yield from _whole_lines(file)
            time.sleep(_PAUSE)


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _whole_lines(file: IO[str]) -> Iterator[Line]:
    """The lines from here on. One that is still being written stays for the next time."""
    while True:
        position = file.tell()
        text = file.readline()
        if not text.endswith("\n"):
            file.seek(position)
            return
        at, _, rest = text.rstrip("\n").partition(" ")
        pid, _, words = rest.partition(" ")
        yield Line(at, pid, words)
