"""The listing of the source bucket, streamed into a temporary table."""

import csv
from dataclasses import dataclass
from io import StringIO

from .keys import read_key
from .shared.storage.objects import Objects, Page
from .shared.storage.records import Connection

_CREATE = """
create temp table listing (
    kind text not null, -- csv, photo or bad_name
    user_id text collate "C",
    key text collate "C" not null,
    etag text not null,
    modified timestamptz not null,
    size bigint not null -- bytes
)
"""


@dataclass
class Listed:
    """How many keys were seen, and how many of them are none of ours (a folder counts as one)."""

    listed: int = 0
    ignored: int = 0


def load_listing(objects: Objects, records: Connection, bucket: str, prefix: str) -> Listed:
    """Fill the temporary table `listing` with the CSVs and photos whose keys begin with `prefix`."""
    records.run(_CREATE)
    seen = Listed()
    for page in objects.pages(bucket, prefix):
        seen.listed += len(page.objects) + page.folders
        seen.ignored += page.folders
        rows, ignored = _rows(page)
        seen.ignored += ignored
        records.copy_in("copy listing from stdin (format csv)", rows)
    return seen


def _rows(page: Page) -> tuple[bytes, int]:
    """The page as CSV for COPY, and the number of keys left out of it."""
    text = StringIO()
    writer = csv.writer(text)
    ignored = 0
    for item in page.objects:
        kind, user_id = read_key(item.key)
        if kind == "ignored":
            ignored += 1
        else:
            key = item.key.replace("\0", "\ufffd")  # PostgreSQL's text can't hold NUL
            writer.writerow((kind, user_id, key, item.etag, item.modified, item.size))
    return text.getvalue().encode(), ignored
