"""After a restore, repeat the erasures that the database has lost.

A restored dump may contain users who were erased after it was made, and lacks the tombstones of these erasures. The
result bucket has them: its erased.csv then differs from the one that this database wrote. Nothing is exported before
that file has been applied.

The file also differs if an export of this database wrote it but was killed or frozen before recording that. It may then
contain users who have returned since. They are erased, and imported again from their newer CSVs, for which hints are
stored.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import islice

from . import outputs, tombstones
from .application import Application
from .deadline import Deadline
from .eraser import Eraser
from .outputs import ERASED
from .segments import Segment
from .shared.log import log
from .shared.storage.connection import Connection
from .shared.storage.errors import AccessDenied, ObjectMissing, Unavailable
from .shared.user_ids import USER_ID_PATTERN
from .tombstones import Tombstone

_BATCH = 1000  # tombstones
_ETAG_FRACTION = 0.1  # maximum wait for the ETag of erased.csv, as a fraction of the remaining time
_LINE = re.compile(rf"({USER_ID_PATTERN}),([^,]+),([^,]*)")
_MAX_LINE = 200  # bytes kept of a line that continues in the next chunk; valid lines are shorter


def apply_lost_tombstones(
    application: Application, connection: Connection, deadline: Deadline, rescan: Callable[[Segment], None]
) -> None:
    """Apply the tombstones in erased.csv that the database lacks, or has only from an earlier erasure.

    If the deadline expires or S3 fails, the next run continues.
    """
    bucket, known_etag = application.settings.result_bucket, outputs.known_etag(connection, ERASED)
    count, is_different = 0, False
    try:
        future = application.listings.submit(application.objects.etag, bucket, ERASED)
        if future.result(deadline.remaining * _ETAG_FRACTION) in ("", known_etag):
            return
        is_different = True
        with application.objects.stream(bucket, ERASED) as stream:
            all_tombstones = _parse_tombstones(stream.chunks)
            while batch := {tombstone.user_id: tombstone for tombstone in islice(all_tombstones, _BATCH)}:
                eraser = Eraser(connection, deadline, rescan, hint=True)
                missing = tombstones.missing(connection, list(batch.values()))
                try:
                    is_complete = eraser.erase(missing, partial(_look_up, batch))
                finally:
                    count += len(eraser.erased)
                if not is_complete:
                    return
            outputs.adopt(connection, ERASED, known_etag, stream.etag)
    except TimeoutError:
        return
    except (ObjectMissing, Unavailable, AccessDenied) as error:
        if isinstance(error, Unavailable | AccessDenied) and error.service != "s3":
            raise
        if is_different:  # exports stay pending until a run has applied the file
            log("warning", "tombstones_not_applied", message=str(error))
    finally:
        if count:
            log("warning", "erased_again", number=count)


def _look_up(batch: Mapping[str, Tombstone], user_ids: Iterable[str]) -> list[Tombstone]:
    return [batch[user_id] for user_id in user_ids]


def _parse_tombstones(chunks: Iterable[bytes]) -> Iterator[Tombstone]:
    """Yield the tombstones of a file. Invalid lines, which include the header, are skipped."""
    for line in _lines(chunks):
        if match := _LINE.fullmatch(line):
            try:
                erased_at = datetime.fromisoformat(match[2])
                csv_modified = datetime.fromisoformat(match[3]) if match[3] else None
            except ValueError:
                continue
            yield Tombstone(match[1], erased_at, csv_modified)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("ascii", "replace").rstrip("\r")
        rest = rest[:_MAX_LINE]
    yield rest.decode("ascii", "replace")
