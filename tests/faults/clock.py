"""Make the clocks of processes jump, with libfaketime. The monotonic clock is unchanged, as when a real clock is set.

Debian's libfaketime 0.9.10 breaks Python's time.sleep; the PyPI package libfaketime works.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from time import monotonic


class Clock:
    """The clock of one replica. A process with `environment` adds the seconds in the file `offset` to the time.

    `jumps` has the periods, on the monotonic clock, in which this clock was set. The first is that of its creation.
    """

    def __init__(self, library: Path, offset: Path) -> None:
        self._library, self._offset = library.resolve(), offset
        self.jumps: list[tuple[float, float]] = []
        self.environment = {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }
        self._set(0)

    def is_used_by(self, pid: int) -> bool:
        """Whether the process has loaded the library. If loading fails, the dynamic linker only warns."""
        return str(self._library) in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")

    @contextmanager
    def jumped(self, seconds: int) -> Iterator[None]:
        """Set the clock ahead by `seconds`, which may be negative, until the end of the block."""
        self._set(seconds)
        try:
            yield
        finally:
            self._set(0)

    def _set(self, seconds: int) -> None:
        partial = self._offset.with_suffix(".partial")
        partial.write_text(f"{seconds:+d}", encoding="ascii")
        self.jumps.append((monotonic(), inf))  # before it has an effect that another thread may notice
        partial.replace(self._offset)
        self.jumps[-1] = (self.jumps[-1][0], monotonic())
