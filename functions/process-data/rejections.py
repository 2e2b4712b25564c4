"""Rejected objects: the reasons, and the table `rejected`, which lists the objects until they are corrected or removed.

An object belongs to one segment, and only the session that holds the segment writes its rejection.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TypedDict

from .changes import take_number
from .scope import Scope
from .shared.storage.connection import Connection

RULES = 2
"""Version of the validation rules. Increment it if a change may make rejected files valid or change their reason."""

MAX_REPORTED = 100
"""A run logs at most this many rejections and as many unreadable objects. Its response has at most this many
rejections."""


class Reason(StrEnum):
    """Codes for programs. They are part of the API: new ones may be added, but existing ones do not change."""

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


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected object. `line` counts from 1; None if the reason is the name or the size.

    `retry_after` is the time from which the same content may be accepted, in milliseconds since 1970-01-01 UTC.
    """

    object: str
    etag: str
    line: int | None
    code: Reason
    message: str
    retry_after: int | None = None


class RejectionSummary(TypedDict):
    """A rejection in a response."""

    object: str
    line: int | None
    code: str
    message: str


# `etag` and `checked_etag` differ only in rows last written by version 1 of process-data, which does not set
# `checked_etag`.
_UPSERT = f"""
with upserted as (
    insert into rejected (object, etag, line, code, message, retry_after, rules, checked_etag)
    select object, etag, line, code, message, retry_after, :rules, etag
    from json_to_recordset(:rejections)
        as r (object text, etag text, line int, code text, message text, retry_after bigint)
    on conflict (object) do update
    set etag = excluded.etag, line = excluded.line, code = excluded.code, message = excluded.message,
        retry_after = excluded.retry_after, rules = excluded.rules, checked_etag = excluded.checked_etag,
        last_seen = now() -- despite its name: when the content, the reason or the rules last changed
    where (rejected.checked_etag, rejected.code, rejected.rules)
        is distinct from (excluded.checked_etag, excluded.code, excluded.rules)
    returning object, etag, line, code, message
), number as (
    {take_number("rejected.csv", "upserted")}
)
select object, etag, line, code, message from upserted order by object limit :limit
"""  # noqa: S608 - interpolates constants

# An object that was removed is no longer rejected, nor is a CSV whose ETag is again that of the user's row.
_DELETE_RESOLVED = f"""
with resolved as (
    delete from rejected
    where {{object_condition}}
        and object not in (select value collate "C" from json_array_elements_text(:from_listing))
        and object not in (
            select (csvs.key || '.csv') collate "C"
            from json_each_text(:csvs) as csvs left join users on users.user_id = csvs.key collate "C"
            where csv_etag is distinct from csvs.value
        )
    returning object
)
{take_number("rejected.csv", "resolved")}
"""  # noqa: S608 - interpolates constants

IS_CURRENT = """
    checked_etag = csvs.etag and rejected.rules = :rules and (retry_after is null or retry_after > :now)
"""
"""SQL condition: the row of `rejected` still applies to the listed CSV."""

DELETE_ACCEPTED = "delete from rejected using stored where object = user_id || '.csv' returning object"
"""SQL that deletes the rejections of the users in the CTE `stored`."""

_COUNT = "select count(*) from rejected where {object_condition}"

_READ = "select object, line, code, message from rejected where {object_condition} order by object limit :limit"


def upsert(connection: Connection, rejections: Sequence[Rejection]) -> list[Rejection]:
    """Insert or update rejections; return those that are new, changed or from new rules, at most MAX_REPORTED."""
    if not rejections:
        return []
    rows = json.dumps([asdict(rejection) for rejection in rejections])
    new = connection.run(_UPSERT, rejections=rows, rules=RULES, limit=MAX_REPORTED)
    return [Rejection(*row) for row in new]


def delete_resolved(connection: Connection, scope: Scope, csvs: str, from_listing: Sequence[Rejection]) -> None:
    """Delete the rejections of objects that are no longer listed or no longer invalid.

    `csvs` is JSON: the ETags of the listed CSVs by user_id. The objects in `from_listing` stay rejected: they are
    listed, and their name or size is invalid.
    """
    keys = json.dumps([rejection.object for rejection in from_listing])
    connection.run(
        _DELETE_RESOLVED.format(object_condition=scope.object_condition),
        csvs=csvs,
        from_listing=keys,
        **scope.object_parameters,
    )


def count_and_read(connection: Connection, scope: Scope) -> tuple[int, list[RejectionSummary]]:
    """The number of rejected objects in a scope, and the first `MAX_REPORTED` of them."""
    [[total]] = connection.run(_COUNT.format(object_condition=scope.object_condition), **scope.object_parameters)
    rows = connection.run(
        _READ.format(object_condition=scope.object_condition), limit=MAX_REPORTED, **scope.object_parameters
    )
    return total, [RejectionSummary(object=name, line=line, code=code, message=text) for name, line, code, text in rows]
