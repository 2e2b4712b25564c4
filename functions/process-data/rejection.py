"""Why an object is refused."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Machine-readable codes, part of the API: they may be added to but don't change."""

    BAD_NAME = "bad_name"
    TOO_LARGE = "too_large"
    EMPTY = "empty"
    NUL_BYTE = "nul_byte"
    NOT_UTF8 = "not_utf8"
    BAD_QUOTING = "bad_quoting"
    MISSING_COLUMN = "missing_column"
    UNKNOWN_COLUMN = "unknown_column"
    REPEATED_COLUMN = "repeated_column"
    NO_ROW = "no_row"
    SEVERAL_ROWS = "several_rows"
    WRONG_FIELD_COUNT = "wrong_field_count"
    EMPTY_VALUE = "empty_value"
    TOO_LONG = "too_long"
    CONTROL_CHARACTER = "control_character"
    NOT_AN_INTEGER = "not_an_integer"
    TOO_EARLY = "too_early"
    IN_THE_FUTURE = "in_the_future"
    OLDER_VERSION = "older_version"


@dataclass(frozen=True, slots=True)
class Rejection:
    """An object that was refused. `line` counts from 1; None when the object as a whole is at fault."""

    object: str
    etag: str
    line: int | None
    code: Reason
    message: str
