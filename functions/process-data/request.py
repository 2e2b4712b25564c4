"""What a request asks for, and what set it off."""

import re
from dataclasses import dataclass

from .runs import Trigger
from .shared.api import ApiError, Event, require_method

_PREFIX = re.compile(r"[0-9]{0,18}")


@dataclass(frozen=True)
class Request:
    """`prefix`: only the users whose ids begin with these digits; everyone when empty."""

    trigger: Trigger
    call_id: str | None
    prefix: str


def read_request(event: Event) -> Request:
    """Check the request; ApiError says what is wrong with it and what is allowed."""
    if event.path.strip("/"):
        raise ApiError(404, "not_found", f"there is no {event.path} here: / runs the pipeline")
    require_method(event, ["POST"])
    if event.body.strip():
        raise ApiError(400, "bad_body", "the body must be empty")
    connector = event.headers.get("X-Connector")
    return Request(
        trigger="cron" if connector == "cron-connector" else "http",
        call_id=event.headers.get("X-Call-Id"),
        prefix=_prefix(event),
    )


def _prefix(event: Event) -> str:
    for name, values in event.query.lists():
        if name != "prefix":
            raise _bad_parameter(name, f"the parameter {name!r} is not known: prefix is allowed")
        if len(values) > 1:
            raise _bad_parameter(name, f"prefix is given {len(values)} times: once is allowed")
    prefix = event.query.get("prefix", "")
    if not _PREFIX.fullmatch(prefix):
        raise _bad_parameter("prefix", f"prefix={prefix!r} is not allowed: the 1 to 18 digits that user_ids begin with")
    return prefix


def _bad_parameter(name: str, message: str) -> ApiError:
    return ApiError(400, "bad_parameter", message, parameter=name)
