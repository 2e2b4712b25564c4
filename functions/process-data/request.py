"""What a request asks for, and what triggered it."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from .keys import MAX_OBJECTS, csv_key, is_user_id, parse_key
from .runs import Trigger
from .shared.api import ApiError, Event, require_method
from .shared.quoting import quoted, truncate

_PARAMETERS = ("user_id", "since", "fan_out", "accept_empty")
_BODY_LIMIT = 1024 * 1024  # bytes: more than a thousand records
_MAX_CALL_ID = 64  # characters: anyone may send one, and it ends up in the log
_TICK = re.compile("[0-9]{1,18}")
_FAN_OUT = re.compile("[1-9]|10")
_BOOLEANS = {"0": False, "false": False, "1": True, "true": True}


@dataclass(frozen=True)
class Request:
    """Scan the whole bucket, or only the `objects` if there are any: a CSV stands for its user.

    With `erase` the users are erased instead. `since` is the tick of the run that this one continues; `fan_out` is how
    many runs to queue instead of running.
    """

    trigger: Trigger
    call_id: str | None = None
    objects: tuple[str, ...] | None = None
    since: int | None = None
    fan_out: int = 0
    accept_empty: bool = False
    erase: bool = False


def parse_request(event: Event, source_bucket: str) -> Request:
    """Check the request; ApiError says what is invalid and what is expected."""
    path = event.path.strip("/")
    if path not in ("", "erase"):
        raise ApiError(404, "not_found", f"there is no {truncate(event.path)} here; POST / runs the pipeline")
    require_method(event, ["POST"])
    call_id = event.headers.get("X-Call-Id", "")[:_MAX_CALL_ID] or None
    if len(event.body) > _BODY_LIMIT:
        raise ApiError(413, "too_large", f"the body has {len(event.body)} bytes; at most {_BODY_LIMIT} are allowed")
    if path == "erase":
        return _parse_erasure(event, call_id)
    if event.body.strip():
        if event.query:
            raise ApiError(400, "bad_parameter", "an event notification takes no parameters")
        return Request(Trigger.EVENT, call_id, _check_number(_event_objects(event.body, source_bucket)))
    return _from_parameters(event, call_id)


def _from_parameters(event: Event, call_id: str | None) -> Request:
    for name, values in event.query.lists():
        if name not in _PARAMETERS:
            raise _bad_parameter(name, f"unknown parameter {quoted(name)}; expected one of {', '.join(_PARAMETERS)}")
        if len(values) > 1 and name != "user_id":
            raise _bad_parameter(name, f"{name} is given {len(values)} times; expected once")
    query = event.query
    users, accept_empty = query.getlist("user_id"), query.get("accept_empty", "0")
    since, fan_out = query.get("since"), query.get("fan_out")
    _check_user_ids(users)
    if since is not None and not _TICK.fullmatch(since):
        raise _bad_parameter("since", f"invalid since={quoted(since)}: expected a number that a run was given")
    if fan_out is not None and not _FAN_OUT.fullmatch(fan_out):
        raise _bad_parameter("fan_out", f"invalid fan_out={quoted(fan_out)}: expected a number from 1 to 10")
    if accept_empty.lower() not in _BOOLEANS:
        raise _bad_parameter("accept_empty", f"invalid accept_empty={quoted(accept_empty)}: expected 1 or 0")
    if len([name for name in ("user_id", "since", "fan_out") if name in query]) > 1:
        raise _bad_parameter("user_id", "user_id, since and fan_out exclude each other: expected one of them")
    trigger = Trigger.CRON if event.headers.get("X-Connector") == "cron-connector" else Trigger.HTTP
    return Request(
        trigger=trigger if since is None else Trigger.CONTINUATION,
        call_id=call_id,
        objects=_check_number({csv_key(user_id) for user_id in users}) if users else None,
        since=None if since is None else int(since),
        fan_out=int(fan_out or 0),
        accept_empty=_BOOLEANS[accept_empty.lower()],
    )


def _parse_erasure(event: Event, call_id: str | None) -> Request:
    if event.body.strip():
        raise ApiError(400, "bad_body", "invalid body: an erasure takes none, users are named by user_id")
    if unknown := event.query.keys() - {"user_id"}:
        raise _bad_parameter(min(unknown), f"unknown parameter {quoted(min(unknown))}; expected user_id")
    users = event.query.getlist("user_id")
    if not users:
        raise _bad_parameter("user_id", f"user_id is missing; expected 1 to {MAX_OBJECTS} of them")
    _check_user_ids(users)
    return Request(Trigger.HTTP, call_id, _check_number({csv_key(user_id) for user_id in users}), erase=True)


def _check_user_ids(users: Iterable[str]) -> None:
    for user_id in users:
        if not is_user_id(user_id):
            raise _bad_parameter("user_id", f"invalid user_id={quoted(user_id)}: expected 1 to 18 digits")


def _event_objects(body: bytes, bucket: str) -> set[str]:
    """The objects to look at for an event; other buckets, folders and unrelated keys give none.

    The format is that of S3's event message, version 2. ApiError when the body is no event notification.
    """
    objects = set()
    for record in _records(body):
        try:
            s3 = record["s3"]
            source, key = s3["bucket"]["name"], unquote_plus(s3["object"]["key"], errors="surrogateescape")
        except (KeyError, TypeError, AttributeError) as error:
            raise _bad_event("a record lacks s3.bucket.name or s3.object.key") from error
        parsed = parse_key(key)
        if source == bucket and parsed.kind != "ignored":
            objects.add(key if parsed.user_id is None else csv_key(parsed.user_id))
    return objects


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


def _check_number(objects: Iterable[str]) -> tuple[str, ...]:
    names = tuple(sorted(objects))
    if len(names) > MAX_OBJECTS:
        message = f"the request names {len(names)} users; at most {MAX_OBJECTS} are allowed"
        raise ApiError(413, "too_many_users", message)
    return names


def _bad_parameter(name: str, message: str) -> ApiError:
    return ApiError(400, "bad_parameter", message, parameter=truncate(name))


def _bad_event(why: str) -> ApiError:
    return ApiError(400, "bad_body", f"invalid body: expected an S3 event notification or nothing: {why}")
