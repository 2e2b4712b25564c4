"""Parse and validate CSVs: each file on its own, but the times of birth of a batch at once."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from itertools import compress
from typing import NamedTuple

import pandas as pd

from .rejections import Reason, Rejection
from .shared.quoting import quote
from .shared.storage.objects import Object

COLUMNS = ("first_name", "last_name", "birthts")
NAME_LIMIT = 200  # characters
EARLIEST = datetime(1850, 1, 1, tzinfo=UTC)

_EARLIEST_MS = int(EARLIEST.timestamp() * 1000)
_QUOTED = re.compile(r'(?<![^,\r\n])[ \t]*("(?:[^"]|"")*"?)(?:[ \t]*(?=[,\r\n]|\Z))?')
_LINE_END = re.compile(rb"\r\n?|\n")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # any match fits into 64 bits
_SPACE = " \t"


class Row(NamedTuple):
    """The row of a CSV, with its line. `birthts` is in milliseconds since 1970-01-01 UTC, and may be out of range."""

    key: str
    etag: str
    modified: datetime
    line: int
    first_name: str
    last_name: str
    birthts: int

    @property
    def user_id(self) -> str:
        return self.key.removesuffix(".csv")


@dataclass(frozen=True)
class CheckResult:
    """The valid rows of a batch, and the rejections of those whose time of birth is out of range."""

    valid: list[Row]
    rejections: list[Rejection]


def read_row(key: str, fetched: Object) -> Row | Rejection:
    """Parse one CSV and check everything but the range of `birthts`."""
    try:
        line, (first_name, last_name, birthts) = _read_values(fetched.body)
        _check_name(line, "first_name", first_name)
        _check_name(line, "last_name", last_name)
        _check_integer(line, "birthts", birthts)
    except _InvalidCsv as error:
        return Rejection(key, fetched.etag, error.line, error.code, error.message)
    return Row(key, fetched.etag, fetched.modified, line, first_name, last_name, int(birthts))


def check_rows(rows: Sequence[Row], now: int) -> CheckResult:
    """Check the times of birth of a batch. `now` is in milliseconds since 1970-01-01 UTC."""
    births = pd.Series([row.birthts for row in rows], dtype="int64")
    in_range = births.between(_EARLIEST_MS, now)
    return CheckResult(list(compress(rows, in_range)), [_reject_birth(row) for row in compress(rows, ~in_range)])


def _reject_birth(row: Row) -> Rejection:
    value = f"birthts is {quote(str(row.birthts))}"
    if row.birthts < _EARLIEST_MS:
        message = f"{value}: expected {_EARLIEST_MS} ({EARLIEST:%Y-%m-%d}) or later"
        return Rejection(row.key, row.etag, row.line, Reason.TOO_EARLY, message)
    message = f"{value}: expected a time in the past"
    return Rejection(row.key, row.etag, row.line, Reason.IN_THE_FUTURE, message, retry_after=row.birthts)


class _InvalidCsv(Exception):
    def __init__(self, line: int, code: Reason, message: str) -> None:
        super().__init__(message)
        self.line, self.code, self.message = line, code, message


def _read_values(body: bytes) -> tuple[int, tuple[str, ...]]:
    """The row's line and its values in the order of COLUMNS. Raises _InvalidCsv."""
    text = _decode(body)
    # Spaces and tabs around a quoted value are valid here, but not in RFC 4180 or the csv module: remove them. Remove
    # those before an opening quote even if the quoting is malformed: otherwise the module takes the quote as text.
    if '"' in text:
        text = _QUOTED.sub(r"\1", text)
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, [field.strip(_SPACE) for field in row]) for row in reader if not _is_blank(row)]
    except csv.Error as error:
        raise _InvalidCsv(reader.line_num, Reason.BAD_QUOTING, f"malformed quoting: {error}") from error
    if not lines:
        raise _InvalidCsv(1, Reason.EMPTY, f"the file is empty: expected the header {', '.join(COLUMNS)} and one row")
    (header_line, header), *rows = lines
    _check_header(header_line, header)
    if not rows:
        raise _InvalidCsv(header_line + 1, Reason.NO_ROW, "expected exactly one row after the header, found none")
    if len(rows) > 1:
        raise _InvalidCsv(rows[1][0], Reason.SEVERAL_ROWS, f"expected exactly one row, found {len(rows)}")
    line, row = rows[0]
    if len(row) != len(COLUMNS):
        raise _InvalidCsv(
            line, Reason.WRONG_FIELD_COUNT, f"expected {len(COLUMNS)} values in the row, found {len(row)}"
        )
    return line, tuple(row[header.index(column)] for column in COLUMNS)


def _is_blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip(_SPACE))


def _decode(body: bytes) -> str:
    if (at := body.find(b"\0")) >= 0:
        raise _InvalidCsv(_line_at(body, at), Reason.NUL_BYTE, "NUL byte: expected a text file")
    try:
        return body.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = _line_at(error.object, error.start)
        message = f"byte 0x{error.object[error.start]:02x} is not valid UTF-8: expected a file in UTF-8"
        raise _InvalidCsv(line, Reason.NOT_UTF8, message) from error


def _line_at(body: bytes, position: int) -> int:
    return len(_LINE_END.findall(body, 0, position)) + 1


def _check_header(line: int, header: list[str]) -> None:
    expected = f"expected {', '.join(COLUMNS)}"
    for column in header:
        if column not in COLUMNS:
            message = f"unknown column {quote(column)}; {expected}"
            raise _InvalidCsv(line, Reason.UNKNOWN_COLUMN, message)
        if header.count(column) > 1:
            raise _InvalidCsv(line, Reason.REPEATED_COLUMN, f"duplicate column {column}; {expected}")
    for column in COLUMNS:
        if column not in header:
            message = f"missing column {column}; {expected}"
            raise _InvalidCsv(line, Reason.MISSING_COLUMN, message)


def _check_name(line: int, column: str, value: str) -> None:
    rule = f"expected 1 to {NAME_LIMIT} characters"
    if not value or value.isspace():
        raise _invalid_value(line, column, value, Reason.EMPTY_VALUE, f"{rule}, not only spaces")
    if len(value) > NAME_LIMIT:
        raise _invalid_value(line, column, value, Reason.TOO_LONG, rule)
    if _CONTROL.search(value):
        raise _invalid_value(line, column, value, Reason.CONTROL_CHARACTER, "expected no control characters")


def _check_integer(line: int, column: str, value: str) -> None:
    if not value:
        rule = "expected milliseconds since 1970-01-01 UTC"
        raise _invalid_value(line, column, value, Reason.EMPTY_VALUE, rule)
    if not _INTEGER.fullmatch(value):
        rule = "expected a whole number of at most 18 digits"
        raise _invalid_value(line, column, value, Reason.NOT_AN_INTEGER, rule)


def _invalid_value(line: int, column: str, value: str, code: Reason, rule: str) -> _InvalidCsv:
    return _InvalidCsv(line, code, f"{column} is {quote(value)}: {rule}")
