"""Segments: ranges of the source bucket's keys, each with one writer at a time.

A segment contains the keys greater than its `start`, up to and including the start of the next one. Only the session
that holds a segment's lock changes its row and its range, and the users, rejections and tombstones of the objects in
it. Any session may add hints, and `next_tick` may make any segment due again.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from . import hints, locks
from .keys import LAST_KEY
from .scope import Range
from .shared.storage.connection import Connection

POLL_INTERVAL = 0.1  # seconds between attempts to claim a segment that another session holds

_TICK = "select nextval('ticks')"

_LATEST_SCAN = "select coalesce(max(scanned), 0) from segments"

_RESCAN = "update segments set scanned = 0, turn = 0 where scanned between :tick and :latest"

# The limit is far above the number of segments that are held at the same time, so the query finds a free one if any
# is free. PostgreSQL does not push volatile functions down into a subquery with LIMIT or DISTINCT, so it tries to lock
# only the rows of the subquery.
_CLAIM_DUE = """
select id from (
    select id from segments where scanned <= :since and id <> all(cast(:skip as int[])) order by turn, start limit 500
) as waiting
where pg_try_advisory_lock(:space, id)
limit 1
"""

_CLAIM_ANY_HINTED = """
select id from (
    select id from (select id, start, lead(start, 1, :last) over (order by start) as next_start from segments) as ranges
    where exists (select from hints) and id <> all(cast(:skip as int[]))
        and (select object from hints where object > start order by object limit 1) <= next_start
    order by start limit 500
) as hinted
where pg_try_advisory_lock(:space, id)
limit 1
"""

_CLAIM_CONTAINING = """
select id from (
    select distinct id
    from ({keys}) as objects
    cross join lateral (select id from segments where start < object order by start desc limit 1) as segment
    where id <> all(cast(:skip as int[]))
) as containing
where pg_try_advisory_lock(:space, id)
limit 1
"""
_KEYS = 'select value collate "C" as object from json_array_elements_text(:keys)'
_CLAIM_KEYS = _CLAIM_CONTAINING.format(keys=_KEYS)
_CLAIM_HINTED = _CLAIM_CONTAINING.format(
    keys=f"select object from hints where object in ({_KEYS})"  # noqa: S608 - interpolates a constant
)

# The lock is tried only if there are hints. The query has no `from segments where id = :id`: PostgreSQL may evaluate
# conditions in any order, and so could lock other segments too.
_RECLAIM = """
select case
    when exists (select from hints where object > :start and object <= :end) then pg_try_advisory_lock(:space, :id)
    else false
end
"""

# Read while the lock is held: before that, other sessions may have changed the segment, or merged it with a neighbour.
_READ = """
select start, coalesce((select min(start) from segments as next where next.start > segments.start), :last),
    scanned, nextval('ticks'), clock_timestamp()
from segments
where id = :id
"""

_SPLIT = """
insert into segments (start, scanned, scanned_at, turn)
select :at, scanned, scanned_at, turn from segments where id = :id
"""

# The scan covers hints that were added before its listing.
_COMPLETE = f"""
with {hints.delete_where("object > :start and object <= :end and tick < :tick")}
update segments
set keys = :keys, unreadable = :unreadable, scanned = :tick, turn = :tick, scanned_at = :at
where id = :id
"""  # noqa: S608 - interpolates a constant

_POSTPONE = "update segments set turn = nextval('ticks') where id = :id"

# The pairs that may be merged: the segment with its predecessor, and with its successor.
_NEIGHBOURS = """
with nearby as (
    (select id, start, keys, scanned from segments where start < :start order by start desc limit 1)
    union all
    (select id, start, keys, scanned from segments where start >= :start order by start limit 2)
)
select lower, upper
from (
    select id as lower, lead(id) over pair as upper, keys + lead(keys) over pair as keys,
        least(scanned, lead(scanned) over pair) as scanned
    from nearby
    window pair as (order by start)
) as pairs
where upper is not null and keys <= :max_keys and scanned > :since
"""

# Before the neighbour was locked, another session may have split or merged it. So check that it is still the neighbour.
_MERGE = """
with upper as (
    delete from segments
    where id = :upper and start = (
        select min(start) from segments where start > (select start from segments where id = :lower)
    )
    returning keys, unreadable, scanned, turn, scanned_at
)
update segments as lower
set keys = lower.keys + upper.keys, unreadable = lower.unreadable + upper.unreadable,
    scanned = least(lower.scanned, upper.scanned), turn = least(lower.turn, upper.turn),
    scanned_at = least(lower.scanned_at, upper.scanned_at)
from upper
where lower.id = :lower
"""

_REMAINING = "select count(*) from segments where scanned <= :since and id <> all(cast(:skip as int[]))"

_TOTAL_KEYS = "select coalesce(sum(keys), 0) from segments"

_HAVE_UNREADABLE = "select exists (select from segments where unreadable > 0)"


@dataclass
class Segment:
    """A segment that this session holds. `tick` and `claimed_at` precede its scan's listing."""

    id: int
    start: str
    end: str
    tick: int
    claimed_at: datetime
    is_new: bool  # no complete scan is recorded, so its objects probably have to be fetched

    @property
    def range(self) -> Range:
        return Range(self.start, self.end)


def next_tick(connection: Connection) -> int:
    """Advance the logical clock and return its new tick. A scan with a greater tick lists the bucket after this call.

    A restore sets the clock back. A scan that began before the restore may record a tick in the future: this function
    makes its segment due again. The latest scan is read before the clock is advanced, so without a restore its tick is
    always less than the new one.
    """
    [[latest]] = connection.run(_LATEST_SCAN)
    tick = int(connection.run(_TICK)[0][0])
    if latest >= tick:
        connection.run(_RESCAN, tick=tick, latest=latest)
    return tick


def claim(connection: Connection, since: int, skip: Collection[int]) -> Segment | None:
    """Claim the segment that has waited longest, of those not scanned since the tick `since`; None if none is free."""
    return _claim(connection, _CLAIM_DUE, {"skip": list(skip), "since": since}, since)


def claim_hinted(connection: Connection, skip: Collection[int], keys: Sequence[str] | None = None) -> Segment | None:
    """Claim a segment that has hints (for `keys`, if given); None if none is free."""
    if keys is None:
        return _claim(connection, _CLAIM_ANY_HINTED, {"skip": list(skip), "last": LAST_KEY})
    return _claim(connection, _CLAIM_HINTED, {"skip": list(skip), "keys": json.dumps(keys)})


def claim_containing(connection: Connection, keys: Sequence[str]) -> Segment | None:
    """Claim a segment that contains some of the keys; None if none is free."""
    return _claim(connection, _CLAIM_KEYS, {"skip": [], "keys": json.dumps(keys)})


def _claim(connection: Connection, sql: str, parameters: dict[str, object], since: int | None = None) -> Segment | None:
    """Claim a segment that the query locks. Repeat the query if another session merged or scanned the segment first."""
    while rows := connection.run(sql, space=locks.SEGMENT, **parameters):
        if segment := _read(connection, rows[0][0], since):
            return segment
    return None


def reclaim(connection: Connection, segment: Segment) -> Segment | None:
    """Reclaim a segment that was just released, if it has hints and is still free."""
    parameters = {"space": locks.SEGMENT, "id": segment.id, "start": segment.start, "end": segment.end}
    [[locked]] = connection.run(_RECLAIM, **parameters)
    return _read(connection, segment.id) if locked else None


def _read(connection: Connection, segment_id: int, since: int | None = None) -> Segment | None:
    """Read a locked segment. If it was merged, or scanned by another session, unlock it and return None."""
    for start, end, scanned, tick, claimed_at in connection.run(_READ, id=segment_id, last=LAST_KEY):
        if since is None or scanned <= since:
            return Segment(segment_id, start, end, tick, claimed_at, is_new=scanned == 0)
    locks.unlock(connection, locks.SEGMENT, segment_id)
    return None


@contextmanager
def holding(connection: Connection, segment: Segment) -> Iterator[None]:
    """Release the segment after the body."""
    try:
        yield
    finally:
        locks.unlock(connection, locks.SEGMENT, segment.id)


def split(connection: Connection, segment: Segment, at: str) -> None:
    """End the segment at the key `at`. The rest becomes a new segment with the same place in the queue."""
    connection.run(_SPLIT, id=segment.id, at=at)
    segment.end = at


def complete(connection: Connection, segment: Segment, keys: int, unreadable: int) -> None:
    """Record a complete scan of the segment, and delete the hints that it covers.

    `unreadable` is the number of CSVs that S3 failed to return to the scan.
    """
    connection.run(
        _COMPLETE,
        id=segment.id,
        keys=keys,
        unreadable=unreadable,
        tick=segment.tick,
        at=segment.claimed_at,
        start=segment.start,
        end=segment.end,
    )


def postpone(connection: Connection, segment: Segment) -> None:
    """Put a segment at the end of the queue, because its scan failed."""
    connection.run(_POSTPONE, id=segment.id)


def merge(connection: Connection, segment: Segment, since: int, max_keys: int) -> None:
    """Merge the segment with a neighbour scanned since the tick `since`, if together they have at most `max_keys`."""
    for lower, upper in connection.run(_NEIGHBOURS, start=segment.start, since=since, max_keys=max_keys):
        other = upper if lower == segment.id else lower
        if locks.try_lock(connection, locks.SEGMENT, other):
            try:
                connection.run(_MERGE, lower=lower, upper=upper)
            finally:
                locks.unlock(connection, locks.SEGMENT, other)
            return  # the segment itself may have been the upper one, which is deleted


def remaining(connection: Connection, since: int, skip: Collection[int] = ()) -> int:
    """The number of segments that have not been scanned since the tick `since`, except those in `skip`."""
    return int(connection.run(_REMAINING, since=since, skip=list(skip))[0][0])


def have_unreadable(connection: Connection) -> bool:
    """Whether S3 failed to return a CSV to the last complete scan of any segment."""
    return bool(connection.run(_HAVE_UNREADABLE)[0][0])


def total_keys(connection: Connection) -> int:
    """The number of keys that the last complete scans counted."""
    return int(connection.run(_TOTAL_KEYS)[0][0])
