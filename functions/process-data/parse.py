"""Reading CSVs: the structure of each on its own, the values of a whole batch at once."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from typing import NamedTuple

import pandas as pd

from .rejections import Reason, Rejection
from .shared.storage.objects import Object

COLUMNS = ("first_name", "last_name", "birthts")
NAME_LIMIT = 200  # characters
EARLIEST = datetime(1850, 1, 1, tzinfo=UTC)

_EARLIEST = int(EARLIEST.timestamp() * 1000)
_QUOTED = re.compile(r'(?<![^,\r\n])[ \t]*("(?:[^"]|"")*")[ \t]*(?=[,\r\n]|\Z)')
_SPACE = " \t"
_MAX_QUOTED = 40  # characters of a bad value that a message quotes


class Row(NamedTuple):
    """The one row of a CSV, its values as they were read, and where it stood."""

    key: str
    etag: str
    modified: datetime
    line: int
    first_name: str
    last_name: str
    birthts: str


@dataclass(frozen=True)
class Checked:
    """`valid` has the columns user_id, first_name, last_name, birthts (int64), etag and modified."""

    valid: pd.DataFrame
    rejections: list[Rejection]


def read_row(key: str, fetched: Object) -> Row | Rejection:
    """Read the structure of one CSV."""
    try:
        line, values = _read_row(fetched.body)
    except _InvalidCsv as error:
        return Rejection(key, fetched.etag, error.line, error.code, error.message)
    # no more of a value is kept than shows that it is too long: a batch takes little memory whatever is in the files
    return Row(key, fetched.etag, fetched.modified, line, *(value[: NAME_LIMIT + 1] for value in values))


def check_rows(rows: Sequence[Row], now: int) -> Checked:
    """Check the values of a batch; each row is valid or rejected. `now` is in milliseconds UTC."""
    frame = pd.DataFrame(rows, columns=list(Row._fields))
    errors = _check_values(frame, now)
    rejections = []
    for index, (code, message) in errors.items():
        row = rows[index]
        retry_after = int(row.birthts) if code == Reason.IN_THE_FUTURE else None
        rejections.append(Rejection(row.key, row.etag, row.line, code, message, retry_after))
    valid = frame.drop(index=list(errors), columns="line") if errors else frame.drop(columns="line")
    valid["user_id"] = valid.pop("key").str.removesuffix(".csv")
    valid["birthts"] = valid["birthts"].astype("int64")
    return Checked(valid, rejections)


class _InvalidCsv(Exception):
    def __init__(self, line: int, code: Reason, message: str) -> None:
        super().__init__(message)
        self.line, self.code, self.message = line, code, message


def _read_row(body: bytes) -> tuple[int, tuple[str, ...]]:
    """The line and the values, in the order of COLUMNS, of the one row; _InvalidCsv when there is none such."""
    text = _decode(body)
    # spaces around a quoted value are allowed here, while RFC 4180 and the csv module want none
    reader = csv.reader(StringIO(_QUOTED.sub(r"\1", text), newline=""), strict=True)
    try:
        lines = [(reader.line_num, [field.strip(_SPACE) for field in row]) for row in reader if not _is_blank(row)]
    except csv.Error as error:
        raise _InvalidCsv(reader.line_num, Reason.BAD_QUOTING, f"the quotes don't match: {error}") from error
    if not lines:
        raise _InvalidCsv(1, Reason.EMPTY, f"the file is empty: a header ({', '.join(COLUMNS)}) and one row are needed")
    (header_line, header), *rows = lines
    _check_header(header_line, header)
    if not rows:
        raise _InvalidCsv(header_line + 1, Reason.NO_ROW, "there is no row after the header: exactly one is needed")
    if len(rows) > 1:
        raise _InvalidCsv(rows[1][0], Reason.SEVERAL_ROWS, f"there are {len(rows)} rows: exactly one is allowed")
    line, row = rows[0]
    if len(row) != len(COLUMNS):
        raise _InvalidCsv(line, Reason.WRONG_FIELD_COUNT, f"the row has {len(row)} values: {len(COLUMNS)} are needed")
    return line, tuple(row[header.index(column)] for column in COLUMNS)


def _is_blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip(_SPACE))


def _decode(body: bytes) -> str:
    if (at := body.find(b"\0")) >= 0:
        raise _InvalidCsv(_line_at(body, at), Reason.NUL_BYTE, "there is a NUL byte: the file must be plain text")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line_at(error.object, error.start)
        message = f"byte 0x{error.object[error.start]:02x} is not UTF-8: save the file as UTF-8"
        raise _InvalidCsv(line, Reason.NOT_UTF8, message) from error


def _line_at(body: bytes, position: int) -> int:
    return body.count(b"\n", 0, position) + 1


def _check_header(line: int, header: list[str]) -> None:
    allowed = ", ".join(COLUMNS)
    for column in header:
        if column not in COLUMNS:
            message = f"the column {_quoted(column)} is not known: the header must be {allowed}"
            raise _InvalidCsv(line, Reason.UNKNOWN_COLUMN, message)
        if header.count(column) > 1:
            raise _InvalidCsv(line, Reason.REPEATED_COLUMN, f"the column {column} is there more than once")
    for column in COLUMNS:
        if column not in header:
            message = f"the column {column} is missing: the header must be {allowed}"
            raise _InvalidCsv(line, Reason.MISSING_COLUMN, message)


def _check_values(frame: pd.DataFrame, now: int) -> dict[int, tuple[Reason, str]]:
    """The first error of each row that has one, by the row's index. `now` is in milliseconds UTC."""
    errors: dict[int, tuple[Reason, str]] = {}

    def flag(mask: "pd.Series[bool]", column: str, code: Reason, rule: str) -> None:
        if not mask.any():  # as for nearly all batches
            return
        for index, value in frame.loc[mask, column].items():
            errors.setdefault(int(str(index)), (code, f"{column} is {_quoted(str(value))}: {rule}"))

    for column in ("first_name", "last_name"):
        names = frame[column].astype(str)
        rule = f"1 to {NAME_LIMIT} characters are needed"
        flag(names.str.strip() == "", column, Reason.EMPTY_VALUE, rule)
        flag(names.str.len() > NAME_LIMIT, column, Reason.TOO_LONG, rule)
        flag(
            names.str.contains(r"[\x00-\x1f\x7f-\x9f]"),
            column,
            Reason.CONTROL_CHARACTER,
            "control characters are not allowed",
        )
    texts = frame["birthts"].astype(str)
    integer = texts.str.fullmatch(r"[+-]?[0-9]{1,18}")  # any of them fits 64 bits
    flag(texts == "", "birthts", Reason.EMPTY_VALUE, "milliseconds since 1970-01-01 UTC are needed")
    flag(~integer, "birthts", Reason.NOT_AN_INTEGER, "a whole number of at most 18 digits is needed")
    births = texts.where(integer, "0").astype("int64")
    early = f"{_EARLIEST} ({EARLIEST:%Y-%m-%d}) is the earliest"
    flag(births < _EARLIEST, "birthts", Reason.TOO_EARLY, early)
    flag(births > now, "birthts", Reason.IN_THE_FUTURE, "the birth must not be in the future")
    return errors


def _quoted(value: str) -> str:
    """The value as a message shows it: escaped, in quotes, and truncated."""
    return repr(value if len(value) <= _MAX_QUOTED else value[:_MAX_QUOTED] + "…")
