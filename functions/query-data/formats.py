"""The formats that people are written in, by PostgreSQL, a line each; and which one a request gets."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from .parameters import Parameter, one_of
from .shared.api import ApiError
from .shared.spreadsheet import FORMULA_PREFIXES

COLUMNS = ("id", "user_id", "first_name", "last_name", "birthdate", "birthts", "img_path", "age")

JSON_LINE = "row_to_json(one)::text"


@dataclass(frozen=True)
class Format:
    """`line` is SQL that makes a line of a row `one`, without its end; `parse_line` reads it again."""

    name: str
    media_type: str
    content_type: str
    line: str
    parse_line: Callable[[str], dict[str, Any]]
    disposition: str | None = None


def _quoted(column: str) -> str:
    """A name in CSV. A spreadsheet would run one that begins as a formula does, so an apostrophe goes before it."""
    clean = rf"translate({column}, E'\x01\x02\n\r', '    ')"
    guarded = f"case when left({column}, 1) in {FORMULA_PREFIXES} then '''' || {clean} else {clean} end"
    return f"""'"' || replace({guarded}, '"', '""') || '"'"""


_CSV_LINE = f"""
concat_ws(
    ',', id, user_id, {_quoted("first_name")}, {_quoted("last_name")}, birthdate, birthts, coalesce(img_path, ''), age
)"""


def _parse_csv(line: str) -> dict[str, str]:
    row = dict(zip(COLUMNS, next(csv.reader([line])), strict=True))
    for name in ("first_name", "last_name"):
        if row[name].startswith("'") and row[name][1:].startswith(FORMULA_PREFIXES):
            row[name] = row[name][1:]
    return row


JSON = Format("json", "application/json", "application/json", JSON_LINE, json.loads)
CSV = Format(
    "csv",
    "text/csv",
    "text/csv; charset=utf-8; header=present",
    _CSV_LINE,
    _parse_csv,
    'attachment; filename="people.csv"',
)
NDJSON = Format("ndjson", "application/x-ndjson", "application/x-ndjson", JSON_LINE, json.loads)
HTML = Format("html", "text/html", "text/html; charset=utf-8", JSON_LINE, json.loads)  # it reads what programs get

FORMATS = {one.name: one for one in (JSON, CSV, NDJSON, HTML)}
"""Those of people."""

LISTING_FORMATS = {one.name: one for one in (JSON, HTML)}
"""Those of `/rejected` and `/runs`."""

FEED_FORMATS = {one.name: one for one in (JSON, NDJSON)}
"""Those of `/changes`."""


def format_parameter(formats: Mapping[str, Format]) -> Parameter:
    return Parameter(
        ", ".join(formats),
        "the format, whatever `Accept` says",
        one_of(formats),
        {"type": "string", "enum": list(formats)},
    )


def negotiated(accept: str | None, formats: Mapping[str, Format] = FORMATS) -> Format:
    """The format that an Accept header likes best, JSON when it is all the same; ApiError 406 when none fits."""
    if not accept:
        return JSON
    by_type = {one.media_type: one for one in formats.values()}
    best = _best_match(accept, tuple(by_type))
    if best is None:
        raise ApiError(406, "not_acceptable", f"Accept allows none of the formats there are: {', '.join(by_type)}")
    return by_type[best]


@lru_cache(32)  # clients send few different ones, and parsing one costs more than most of a request
def _best_match(accept: str, media_types: tuple[str, ...]) -> str | None:
    accepted = parse_accept_header(accept, MIMEAccept)
    return MIMEAccept((kind.partition(";")[0], quality) for kind, quality in accepted).best_match(media_types)


def prefers_html(name: str | None, accept: str | None, formats: Mapping[str, Format] = FORMATS) -> bool:
    """Whether a person asks, by the parameter `format` or else by Accept. Invalid values of either are ignored."""
    if named := formats.get(name or ""):
        return named is HTML
    try:
        return negotiated(accept, formats) is HTML
    except ApiError:
        return False


@dataclass(frozen=True)
class Trailer:
    """What follows the people. Its presence shows that a response is complete, as transport can't tell.

    `next` is the URL, relative to the request's, of what comes after them; `count` is how many there are in all.
    """

    next: str | None
    count: int | None = None

    @property
    def json(self) -> str:
        """As the last members of a JSON object."""
        return json.dumps({"next": self.next} | ({} if self.count is None else {"count": self.count}))[1:-1]


def document(form: Format, chunks: Iterable[bytes], trailer: Callable[[], Trailer]) -> Iterator[bytes]:
    """The whole response around chunks of whole lines. `trailer` is called after the last one."""
    if form is CSV:
        yield b"\xef\xbb\xbf" + ",".join(COLUMNS).encode() + b"\n"  # by the BOM a spreadsheet sees that it is UTF-8
    if form is JSON:
        yield b'{"result": ['
        separator = b""
        for chunk in chunks:
            yield separator + chunk[:-1].replace(b"\n", b",\n")
            separator = b",\n"
        yield f"], {trailer().json}}}\n".encode()
        return
    yield from chunks
    if form is NDJSON:
        yield f"{{{trailer().json}}}\n".encode()
    else:
        following = trailer().next
        yield f"#next {following}\n".encode() if following else b"#end\n"
