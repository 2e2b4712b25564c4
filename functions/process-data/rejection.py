"""Why an object is refused."""

from dataclasses import dataclass
from enum import StrEnum

from .shared.storage.records import Connection

_LOCK = 0x72656A6563746564  # "rejected" in ASCII: our key among the database's advisory locks


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


def lock_rejected(records: Connection) -> None:
    """Let no other run write to `rejected` until the transaction ends: several statements lock its rows in no order."""
    records.run("select pg_advisory_xact_lock(:key)", key=_LOCK)
