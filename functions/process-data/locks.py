"""The advisory locks of process-data, and the order in which locks are taken.

Each lock belongs to a session and ends with it:

    run       held while a run is in progress; shared, as the lost session of an earlier attempt may still hold it
    segment   held by the only writer of the segment's users, rejections and tombstones
    export    held by the only writer of the result bucket

The first session of a run locks the run. Each session then holds either one segment at a time (two while it merges
neighbours) or the export, never both. No session waits for these locks, so they cannot cause deadlocks: a run's lock is
always shared, and the others are only tried. Statements lock rows in a fixed order: those of the table `hints` by key,
those of `outputs` in the order output.csv, rejected.csv, erased.csv.
"""

from .shared.storage.connection import Connection

RUN = 0x72756E73  # "runs" in ASCII; the second half of the key is the run's id modulo 2**31
SEGMENT = 0x7365676D  # "segm" in ASCII; the second half is the segment's id
EXPORT = 0x65787074  # "expt" in ASCII; the second half is 0


def lock_shared(connection: Connection, space: int, number: int) -> None:
    """Acquire the lock in shared mode."""
    connection.run("select pg_advisory_lock_shared(:space, :number)", space=space, number=number)


def try_lock(connection: Connection, space: int, number: int) -> bool:
    """Acquire the lock if it is free; return whether it was free."""
    [[locked]] = connection.run("select pg_try_advisory_lock(:space, :number)", space=space, number=number)
    return bool(locked)


def unlock_shared(connection: Connection, space: int, number: int) -> None:
    """Release a shared lock; does nothing if the session, and its locks, have ended."""
    if not connection.broken:
        connection.run("select pg_advisory_unlock_shared(:space, :number)", space=space, number=number)


def unlock(connection: Connection, space: int, number: int) -> None:
    """Release the lock; does nothing if the session, and its locks, have ended."""
    if not connection.broken:
        connection.run("select pg_advisory_unlock(:space, :number)", space=space, number=number)
