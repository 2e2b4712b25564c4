"""Parse and check requests."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from .keys import MAX_REQUESTED_KEYS, csv_key, parse_key
from .runs import Trigger
from .shared.api import ApiError, Event, invalid_parameter, require_method
from .shared.quoting import quote, truncate
from .shared.user_ids import USER_ID_FORMAT, is_user_id

_PARAMETERS = ("user_id", "since", "fan_out", "accept_empty")
_MAX_BODY = 1024 * 1024  # bytes: room for more than 1,000 event records
_MAX_CALL_ID = 64  # characters: clients may choose it, and it is logged
_TICK = re.compile("[0-9]{1,18}")
_FAN_OUT = re.compile("[1-9]|10")
_BOOLEANS = {"0": False, "false": False, "1": True, "true": True}


@dataclass(frozen=True)
class Request:
    """A request to scan the bucket or single objects, to erase users, or to queue runs.

    A CSV's key stands for its user, photo included.
    """

    trigger: Trigger
    call_id: str | None = None
    keys: tuple[str, ...] | None = None  # None: the whole bucket
    since: int | None = None  # skip segments scanned after this tick, a logical time: see `segments.next_tick`
    fan_out: int = 0  # number of runs to queue; 0: run now
    accept_empty: bool = False  # an empty bucket is not an error
    erase: bool = False  # erase the users in `keys`


def parse_request(event: Event, source_bucket: str) -> Request:
    """Parse a request. Raises ApiError if it is invalid."""
    path = event.path.strip("/")
    if path not in ("", "erase"):
        raise ApiError(404, "not_found", f"unknown path {truncate(event.path)}; expected / or /erase")
    require_method(event, ["POST"])
    call_id = event.headers.get("X-Call-Id", "")[:_MAX_CALL_ID] or None
    if len(event.body) > _MAX_BODY:
        raise ApiError(413, "too_large", f"the body has {len(event.body)} bytes; expected at most {_MAX_BODY}")
    if path == "erase":
        return _parse_erasure(event, call_id)
    if event.body.strip():
        if event.query:
            raise ApiError(400, "bad_parameter", "an event notification takes no parameters")
        return Request(Trigger.EVENT, call_id, _sort_and_check(_notification_keys(event.body, source_bucket)))
    return _parse_parameters(event, call_id)


def _parse_parameters(event: Event, call_id: str | None) -> Request:
    for name, values in event.query.lists():
        if name not in _PARAMETERS:
            raise invalid_parameter(name, f"unknown parameter {quote(name)}; expected one of {', '.join(_PARAMETERS)}")
        if len(values) > 1 and name != "user_id":
            raise invalid_parameter(name, f"repeated parameter {name}: expected at most one")
    query = event.query
    user_ids, accept_empty = query.getlist("user_id"), query.get("accept_empty", "0")
    since, fan_out = query.get("since"), query.get("fan_out")
    _check_user_ids(user_ids)
    if since is not None and not _TICK.fullmatch(since):
        raise invalid_parameter("since", f"invalid since={quote(since)}: expected the tick of a run")
    if fan_out is not None and not _FAN_OUT.fullmatch(fan_out):
        raise invalid_parameter("fan_out", f"invalid fan_out={quote(fan_out)}: expected a number from 1 to 10")
    if accept_empty.lower() not in _BOOLEANS:
        raise invalid_parameter(
            "accept_empty", f"invalid accept_empty={quote(accept_empty)}: expected true, false, 1 or 0"
        )
    exclusive = [name for name in ("user_id", "since", "fan_out") if name in query]
    if len(exclusive) > 1:
        raise invalid_parameter(exclusive[0], "user_id, since and fan_out are mutually exclusive: expected at most one")
    trigger = Trigger.CRON if event.headers.get("X-Connector") == "cron-connector" else Trigger.HTTP
    return Request(
        trigger=trigger if since is None else Trigger.CONTINUATION,
        call_id=call_id,
        keys=_sort_and_check({csv_key(user_id) for user_id in user_ids}) if user_ids else None,
        since=None if since is None else int(since),
        fan_out=int(fan_out or 0),
        accept_empty=_BOOLEANS[accept_empty.lower()],
    )


def _parse_erasure(event: Event, call_id: str | None) -> Request:
    if event.body.strip():
        raise ApiError(400, "bad_body", "invalid body: expected none; name the users with ?user_id=")
    if unknown := event.query.keys() - {"user_id"}:
        raise invalid_parameter(min(unknown), f"unknown parameter {quote(min(unknown))}; expected user_id")
    user_ids = event.query.getlist("user_id")
    if not user_ids:
        raise invalid_parameter(
            "user_id", f"user_id is required: expected the user_ids of 1 to {MAX_REQUESTED_KEYS} users"
        )
    _check_user_ids(user_ids)
    return Request(Trigger.HTTP, call_id, _sort_and_check({csv_key(user_id) for user_id in user_ids}), erase=True)


def _check_user_ids(user_ids: Iterable[str]) -> None:
    for user_id in user_ids:
        if not is_user_id(user_id):
            raise invalid_parameter("user_id", f"invalid user_id={quote(user_id)}: expected {USER_ID_FORMAT}")


def _notification_keys(body: bytes, bucket: str) -> set[str]:
    """Return the keys in this bucket that an event notification names, except unrelated ones.

    A photo's key becomes that of its user's CSV. Raises ApiError if the body is not an event notification.
    """
    keys = set()
    for record in _records(body):
        try:
            s3 = record["s3"]
            source, key = s3["bucket"]["name"], unquote_plus(s3["object"]["key"], errors="surrogateescape")
        except (KeyError, TypeError, AttributeError) as error:
            raise _invalid_notification("a record lacks s3.bucket.name or s3.object.key") from error
        parsed = parse_key(key)
        if source == bucket and parsed.kind != "ignored":
            keys.add(key if parsed.user_id is None else csv_key(parsed.user_id))
    return keys


def _records(body: bytes) -> list[Any]:
    try:
        notification = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _invalid_notification("it is not JSON") from error
    if isinstance(notification, dict) and notification.get("Event") == "s3:TestEvent":
        return []  # S3 sends this event when notifications are set up
    if not isinstance(notification, dict) or not isinstance(records := notification.get("Records"), list):
        raise _invalid_notification("it has no list of Records")
    return records


def _sort_and_check(keys: Iterable[str]) -> tuple[str, ...]:
    """The keys, sorted. Raises ApiError 413 if there are too many."""
    ordered = tuple(sorted(keys))
    if len(ordered) > MAX_REQUESTED_KEYS:
        message = f"the request names {len(ordered)} users or CSVs; expected at most {MAX_REQUESTED_KEYS}"
        raise ApiError(413, "too_many_users", message)
    return ordered


def _invalid_notification(reason: str) -> ApiError:
    return ApiError(400, "bad_body", f"invalid body: expected an S3 event notification or none; {reason}")
