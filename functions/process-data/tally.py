"""What a run did, added up over its passes and batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from .diff import Diff
from .fetch import Answer, Failed
from .listing import Listed
from .rejection import Rejection
from .store import Stored

LOGGED = 100
"""Rejections, and objects that can't be had, that are kept for the log."""

STAGES = ("list", "diff", "fetch", "parse", "store", "export", "total")


@dataclass
class Tally:
    listed: int = 0  # keys seen by the last pass
    ignored: int = 0  # of them, those that are none of ours
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    images_changed: int = 0
    remaining: int = 0  # CSVs that changed and were not taken in
    refused: list[Rejection] = field(default_factory=list)  # the first of this run's
    failed: list[Failed] = field(default_factory=list)  # the first that could not be had
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the body takes to a stage's seconds."""
        begun = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds[name] + perf_counter() - begun, 4)

    def saw(self, seen: Listed, diff: Diff) -> None:
        """A pass has listed and compared: what follows is counted from here."""
        self.listed, self.ignored = seen.listed, seen.ignored
        self.images_changed += diff.images_changed
        self.unchanged = max(0, diff.unchanged - self.added - self.updated)  # what former passes took in is none
        self.remaining = diff.todo
        self._refused(diff.refused)

    def took(self, stored: Stored, rejections: list[Rejection], batch: list[Answer]) -> None:
        """A batch is stored."""
        failed = [one for one in batch if isinstance(one, Failed)]
        self.failed += failed[: LOGGED - len(self.failed)]
        self.added += stored.added
        self.updated += stored.updated
        self.unchanged += stored.unchanged
        self.remaining -= len(batch) - len(failed)
        self._refused(rejections)

    def _refused(self, rejections: list[Rejection]) -> None:
        self.refused += rejections[: LOGGED - len(self.refused)]
