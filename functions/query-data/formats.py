"""Response formats. PostgreSQL formats each row as a line."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .shared.spreadsheet import FORMULA_PREFIXES

COLUMNS = ("id", "user_id", "first_name", "last_name", "birthdate", "birthts", "img_path", "age")

_JSON_LINE = "row_to_json(result)::text"


@dataclass(frozen=True)
class Format:
    """`line` is SQL that formats a row of the subquery `result`, without a line break; `parse_line` parses a line."""

    name: str
    media_type: str
    content_type: str
    line: str
    # ETags are computed from the repr of a format. A function's repr would differ between processes.
    parse_line: Callable[[str], dict[str, Any]] = field(repr=False)
    disposition: str | None = None


def _quote(column: str) -> str:
    """Return SQL for a person's name in CSV, with an apostrophe first if a spreadsheet would evaluate it as a formula.

    A name that begins with apostrophes followed by one of FORMULA_PREFIXES gets one more apostrophe, so that
    `_parse_csv` can remove what was added. Line breaks, and the delimiter and quote of the COPY in users.py, become
    spaces.
    """
    clean = rf"translate({column}, E'\x01\x02\n\r', '    ')"
    neutralised = (
        f"case when left(ltrim({column}, ''''), 1) in {FORMULA_PREFIXES} then '''' || {clean} else {clean} end"
    )
    return f"""'"' || replace({neutralised}, '"', '""') || '"'"""


_CSV_LINE = f"""
concat_ws(
    ',', id, user_id, {_quote("first_name")}, {_quote("last_name")}, birthdate, birthts, coalesce(img_path, ''), age
)"""


def _parse_csv(line: str) -> dict[str, str]:
    row = dict(zip(COLUMNS, next(csv.reader([line])), strict=True))
    for name in ("first_name", "last_name"):
        if row[name].lstrip("'").startswith(FORMULA_PREFIXES):  # then the first character is an added apostrophe
            row[name] = row[name][1:]
    return row


JSON = Format("json", "application/json", "application/json", _JSON_LINE, json.loads)
CSV = Format(
    "csv",
    "text/csv",
    "text/csv; charset=utf-8; header=present",
    _CSV_LINE,
    _parse_csv,
    'attachment; filename="people.csv"',
)
NDJSON = Format("ndjson", "application/x-ndjson", "application/x-ndjson", _JSON_LINE, json.loads)
HTML = Format("html", "text/html", "text/html; charset=utf-8", _JSON_LINE, json.loads)  # a page is made from JSON lines

FORMATS = {fmt.name: fmt for fmt in (JSON, CSV, NDJSON, HTML)}
"""Formats of `/`."""

TABLE_FORMATS = {fmt.name: fmt for fmt in (JSON, HTML)}
"""Formats of `/rejected` and `/runs`."""

FEED_FORMATS = {fmt.name: fmt for fmt in (JSON, NDJSON)}
"""Formats of `/changes`."""
