"""Erase users segment by segment. A segment is held while its users are erased, as during a scan."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from . import hints, segments, tombstones
from .deadline import Deadline
from .keys import csv_key, user_of_csv
from .segments import Segment
from .shared.storage.connection import Connection
from .tombstones import Tombstone


@dataclass
class Eraser:
    """Erases users until the deadline. Erasing the same users again is safe.

    `rescan` is called for each segment after its release, for hints that were added while it was held. `erased` has
    an entry for each user_id that is done: whether there was anything to erase (see `tombstones.erase`). With `hint`
    the users' CSVs become hints, so that a user who has a newer CSV is imported again.
    """

    connection: Connection
    deadline: Deadline
    rescan: Callable[[Segment], None]
    erased: dict[str, bool] = field(default_factory=dict)
    hint: bool = False

    def erase(self, user_ids: Iterable[str], create_tombstones: Callable[[list[str]], list[Tombstone]]) -> bool:
        """Erase the users; return whether all were erased before the deadline.

        `create_tombstones` is called while the users' segment is held. It omits users for whom there is no time left.
        """
        remaining = [csv_key(user_id) for user_id in user_ids if user_id not in self.erased]
        while remaining and not self.deadline.expired:
            segment = segments.claim_containing(self.connection, remaining)
            if segment is None:
                self.deadline.sleep(segments.POLL_INTERVAL)
                continue
            with segments.holding(self.connection, segment):
                keys = [key for key in remaining if segment.start < key <= segment.end]
                users = [user_id for key in keys if (user_id := user_of_csv(key))]
                self.erased |= tombstones.erase(self.connection, create_tombstones(users), segment.tick)
                if self.hint:
                    hints.add(self.connection, keys)
            remaining = [key for key in remaining if user_of_csv(key) not in self.erased]
            self.rescan(segment)
        return not remaining
