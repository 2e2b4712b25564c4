"""What a request asks for, and what set it off."""

import re
from dataclasses import dataclass

from .events import read_event
from .runs import Trigger
from .scope import EVERYONE
from .shared.api import ApiError, Event, require_method

_PREFIX = re.compile(r"[0-9]{0,18}")
_BODY_LIMIT = 1024 * 1024  # bytes: more than a thousand records
_CALL_ID_LIMIT = 64  # characters: anyone may send one, and it ends up in the log


@dataclass(frozen=True)
class Request:
    """What to look at: the keys that begin with any of the `prefixes`.

    A `fan_out` asks for the shards to be run instead.
    """

    trigger: Trigger
    call_id: str | None
    prefixes: tuple[str, ...]
    fan_out: bool = False


def read_request(event: Event, source_bucket: str) -> Request:
    """Check the request; ApiError says what is wrong with it and what is allowed."""
    if event.path.strip("/"):
        raise ApiError(404, "not_found", f"there is no {event.path} here: / runs the pipeline")
    require_method(event, ["POST"])
    call_id = event.headers.get("X-Call-Id", "")[:_CALL_ID_LIMIT] or None
    if len(event.body) > _BODY_LIMIT:
        raise ApiError(413, "too_large", f"the body has {len(event.body)} bytes: {_BODY_LIMIT} are allowed")
    if event.body.strip():
        if event.query:
            raise ApiError(400, "bad_parameter", "an event notification takes no parameters")
        return Request("event", call_id, read_event(event.body, source_bucket))
    connector = event.headers.get("X-Connector")
    prefix, fan_out = _parameters(event)
    return Request("cron" if connector == "cron-connector" else "http", call_id, (prefix,), fan_out)


def _parameters(event: Event) -> tuple[str, bool]:
    for name, values in event.query.lists():
        if name not in ("prefix", "fan_out"):
            raise _bad_parameter(name, f"the parameter {name!r} is not known: prefix and fan_out are")
        if len(values) > 1:
            raise _bad_parameter(name, f"{name} is given {len(values)} times: once is allowed")
    prefix, fan_out = event.query.get("prefix", EVERYONE), event.query.get("fan_out", "0")
    if not _PREFIX.fullmatch(prefix):
        raise _bad_parameter("prefix", f"prefix={prefix!r} is not allowed: the 1 to 18 digits that user_ids begin with")
    if fan_out not in ("0", "1"):
        raise _bad_parameter("fan_out", f"fan_out={fan_out!r} is not allowed: 1 or 0")
    if prefix and fan_out == "1":
        raise _bad_parameter("fan_out", "fan_out=1 runs all the prefixes: give it alone")
    return prefix, fan_out == "1"


def _bad_parameter(name: str, message: str) -> ApiError:
    return ApiError(400, "bad_parameter", message, parameter=name)
