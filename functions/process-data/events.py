"""S3 event notifications: which keys to look at.

An event is a hint that something happened to a key; what is there now is seen by looking. Events may thus
come in any order, more than once or never. The format is that of S3's event message, version 2.
"""

import json
import re
from typing import Any
from urllib.parse import unquote_plus

from .keys import read_key
from .shared.api import ApiError

_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
"""What neither PostgreSQL nor a URL takes. A run over the whole bucket sees what such a key may mean."""


def read_event(body: bytes, bucket: str) -> tuple[str, ...]:
    """The prefixes to list for an event's keys; other buckets, folders and keys of no interest give none.

    ApiError when the body is no event notification.
    """
    prefixes = set()
    for record in _records(body):
        try:
            s3 = record["s3"]
            source, key = s3["bucket"]["name"], unquote_plus(s3["object"]["key"])
        except (KeyError, TypeError, AttributeError) as error:
            raise _bad_event("a record lacks s3.bucket.name or s3.object.key") from error
        if source == bucket and (prefix := _prefix(key)) is not None:
            prefixes.add(prefix)
    return tuple(sorted(prefixes))


def _records(body: bytes) -> list[Any]:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad_event("it is not JSON") from error
    if isinstance(event, dict) and event.get("Event") == "s3:TestEvent":  # S3 asks whether anyone listens
        return []
    if not isinstance(event, dict) or not isinstance(records := event.get("Records"), list):
        raise _bad_event("it has no list of Records")
    return records


def _prefix(key: str) -> str | None:
    """What to list for a key: all that belongs to its user, or the misnamed CSV itself."""
    if "/" in key or _NOT_TEXT.search(key):
        return None
    kind, user_id = read_key(key)
    if kind == "ignored":
        return None
    return key if user_id is None else f"{user_id}."


def _bad_event(why: str) -> ApiError:
    return ApiError(400, "bad_body", f"the body must be empty or an S3 event notification: {why}")
