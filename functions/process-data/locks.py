"""The advisory locks of process-data, and the order in which locks are taken.

Each lock belongs to a session and ends with it:

    run       held while a run is in progress, so that others can tell that its process lives
    segment   held by the one writer of the segment's users, rejections, tombstones and hints
    export    held by whoever writes the result bucket

A session first holds its run, then one segment (its neighbour's too while it merges both), then no segment but
the export. Segments and the export are only tried, never waited for, so runs cannot deadlock. Of the rows that
other sessions write too, those of outputs, a statement locks 'output.csv' before 'rejected.csv' before
'erased.csv'.
"""

from .shared.storage.records import Connection

RUN = 0x72756E73  # "runs" in ASCII; the second half of the key is the run's id
SEGMENT = 0x7365676D  # "segm" in ASCII; the second half is the segment's id
EXPORT = 0x65787074  # "expt" in ASCII; the second half is 0


def lock(connection: Connection, space: int, number: int) -> None:
    """Wait for a lock."""
    connection.run("select pg_advisory_lock(:space, :number)", space=space, number=number)


def try_lock(connection: Connection, space: int, number: int) -> bool:
    """Take the lock if it is free."""
    [[locked]] = connection.run("select pg_try_advisory_lock(:space, :number)", space=space, number=number)
    return bool(locked)


def unlock(connection: Connection, space: int, number: int) -> None:
    """Release the lock; harmless when the session, and the lock with it, has ended."""
    if not connection.broken:
        connection.run("select pg_advisory_unlock(:space, :number)", space=space, number=number)
