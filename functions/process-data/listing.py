"""The listing of the source bucket, streamed into a temporary table."""

import csv
from collections.abc import Iterable
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
    size bigint not null -- bytes
)
"""


@dataclass
class Listed:
    """How many keys were seen, and how many of them are none of ours (a folder counts as one)."""

    listed: int = 0
    ignored: int = 0


_CHUNK = 256 * 1024
"""Bytes of rows that are gathered for a COPY: several pages, as each costs a few round trips."""


def load_listing(objects: Objects, records: Connection, bucket: str, prefixes: Iterable[str]) -> Listed:
    """Fill the temporary table `listing` with the CSVs and photos whose keys begin with any of `prefixes`."""
    records.run(_CREATE)
    seen, text = Listed(), StringIO()
    for prefix in prefixes:
        for page in objects.pages(bucket, prefix):
            rows = _rows(page)
            csv.writer(text).writerows(rows)
            seen.listed += len(page.objects) + page.folders
            seen.ignored += len(page.objects) - len(rows) + page.folders
            if text.tell() >= _CHUNK:
                _copy(records, text)
                text = StringIO()
    _copy(records, text)
    return seen


def _rows(page: Page) -> list[tuple[object, ...]]:
    """What of the page is ours."""
    named = ((read_key(item.key), item) for item in page.objects)
    return [
        # PostgreSQL's text can't hold NUL
        (name.kind, name.user_id, item.key.replace("\0", "\\x00"), item.etag, item.size)
        for name, item in named
        if name.kind != "ignored"
    ]


def _copy(records: Connection, rows: StringIO) -> None:
    records.copy_in("copy listing from stdin (format csv)", rows.getvalue().encode())
