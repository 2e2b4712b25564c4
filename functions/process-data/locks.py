"""The advisory locks of process-data, and the order in which locks are taken.

Each lock belongs to a session and ends with it:

    run       held while a run is in progress: other runs see that its session exists
    segment   held by the only writer of the segment's users, rejections and tombstones
    export    held by the only writer of the result bucket

A run's session locks the run first, then one segment at a time (and a neighbour while it merges the two), or the export
while it holds no segment. Sessions never wait for the lock of a segment or of the export: they only try it. So these
locks cannot cause deadlocks. All sessions write the rows of `outputs`. Statements lock 'output.csv' before
'rejected.csv' before 'erased.csv', so these row locks cannot cause deadlocks either.
"""

from .shared.storage.connection import Connection

RUN = 0x72756E73  # "runs" in ASCII; the second half of the key is the run's id modulo 2**31
SEGMENT = 0x7365676D  # "segm" in ASCII; the second half is the segment's id
EXPORT = 0x65787074  # "expt" in ASCII; the second half is 0


def lock(connection: Connection, space: int, number: int) -> None:
    """Wait for the lock."""
    connection.run("select pg_advisory_lock(:space, :number)", space=space, number=number)


def try_lock(connection: Connection, space: int, number: int) -> bool:
    """Acquire the lock if it is free."""
    [[locked]] = connection.run("select pg_try_advisory_lock(:space, :number)", space=space, number=number)
    return bool(locked)


def unlock(connection: Connection, space: int, number: int) -> None:
    """Release the lock; does nothing if the session, and its locks, have ended."""
    if not connection.broken:
        connection.run("select pg_advisory_unlock(:space, :number)", space=space, number=number)
