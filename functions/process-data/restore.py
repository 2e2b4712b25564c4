"""After a restore: whom the database no longer knows as erased is erased again.

A dump brings back who was erased after it was made. It lacks their tombstones, or has older ones, which their newer
files outlive. The result bucket has them: its erased.csv is then another one than this database wrote. No run exports
anything before it has applied that file.
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
from .shared.storage.errors import ObjectMissing, Refused, Unavailable
from .shared.storage.records import Connection
from .tombstones import Tombstone

_BATCH = 1000
_PATIENCE = 0.1  # fraction of the time that is left, for S3 to say whether the file is another one
_LINE = re.compile(r"([0-9]{1,18}),([^,]+),([^,]*)")
_LONGEST_LINE = 200  # bytes; what is longer is none of them


def apply_lost(
    application: Application, connection: Connection, deadline: Deadline, rescan: Callable[[Segment], None]
) -> None:
    """Erase again whom the mirror of tombstones has and the database does not, or only from an earlier erasure.

    What there is no time for, or what S3 fails to return, is left to the next run.
    """
    bucket, known = application.settings.result_bucket, outputs.known_etag(connection, ERASED)
    try:
        looking = application.listings.submit(application.objects.etag, bucket, ERASED)
        if looking.result(deadline.remaining * _PATIENCE) in ("", known):
            return
        number = 0
        with application.objects.stream(bucket, ERASED) as stream:
            lines = _tombstones(stream.chunks)
            while batch := {one.user_id: one for one in islice(lines, _BATCH)}:
                eraser = Eraser(connection, deadline, rescan)
                missing = tombstones.missing(connection, list(batch.values()))
                if not eraser.erase(missing, partial(_look_up, batch)):
                    return
                number += len(missing)
            outputs.adopt(connection, ERASED, known, stream.etag)
    except (ObjectMissing, TimeoutError):
        return
    except (Unavailable, Refused) as error:
        if error.service != "s3":
            raise
        return  # nothing is exported meanwhile, and the export says why
    if number:
        log("warning", "erased_again", number=number)


def _look_up(batch: Mapping[str, Tombstone], user_ids: Iterable[str]) -> list[Tombstone]:
    return [batch[user_id] for user_id in user_ids]


def _tombstones(chunks: Iterable[bytes]) -> Iterator[Tombstone]:
    """Those of a file, whose other lines are skipped."""
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
        rest = rest[: _LONGEST_LINE + 1]
    yield rest.decode("ascii", "replace")
