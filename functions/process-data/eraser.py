"""Erasing people segment by segment, each under its lock, as their scans write under it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from . import segments, tombstones
from .deadline import Deadline
from .keys import csv_key, user_of
from .segments import Segment
from .shared.storage.records import Connection
from .tombstones import Tombstone

_POLL = 0.1  # seconds between two attempts to claim a segment that others hold


@dataclass
class Eraser:
    """Erases what it is given until the deadline, and may be given the same again.

    `rescan` is called for each segment after its release: hints that came meanwhile were left to its holder.
    `erased` has those who were erased, and whether there was anything of them.
    """

    connection: Connection
    deadline: Deadline
    rescan: Callable[[Segment], None]
    erased: dict[str, bool] = field(default_factory=dict)

    def erase(self, user_ids: Iterable[str], look: Callable[[list[str]], list[Tombstone]]) -> bool:
        """Whether there was time for all of them.

        `look` gives the tombstones of some users while their segment is held, those that there was time for.
        """
        left = [csv_key(user_id) for user_id in user_ids if user_id not in self.erased]
        while left and not self.deadline.expired:
            segment = segments.claim_around(self.connection, left)
            if segment is None:
                self.deadline.sleep(_POLL)
                continue
            with segments.holding(self.connection, segment):
                found = look([user for name in left if segment.start < name <= segment.end and (user := user_of(name))])
                self.erased |= tombstones.erase(self.connection, found, segment.tick)
            left = [name for name in left if user_of(name) not in self.erased]
            self.rescan(segment)
        return not left
