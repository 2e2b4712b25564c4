"""Sends both functions valid, nearly valid and invalid queries, cursors, headers and event bodies."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from random import Random
from urllib.parse import parse_qs, urlencode

from process_data.request import _PARAMETERS
from query_data.handler import _ENDPOINTS
from query_data.query import PARAMETERS

from tests.fuzz import generators as generate
from tests.fuzz.client import AUTHORIZED, TOKEN, Client, Request
from tests.stack import Stack

ClientFuzz = Callable[[Client, Client, int, int], Iterator[str]]
"""Takes the clients of process-data and query-data, the number of inputs and the seed, and yields findings."""

_PATHS = (
    *["/"] * 6, *_ENDPOINTS, "/stats", "/photo/1", "/photo/2", "/photo/99", "/query-data/runs", "/query-data", "//",
    "/photo/x", "/photo/1/", "/STATS", "/a\tb", "/\xff", "/%00", "/..", "/" + "x" * 3000,
)  # fmt: skip
_QUERY_NAMES = tuple(PARAMETERS)
_CALL_IDS = ("", "1", "\xff" * 100, "x" * 5000, "a\tb")
_CONTENT_TYPES = ("application/json", "text/plain", "", "application/x-www-form-urlencoded")
_BASIC = (b64encode(f"{user}:{TOKEN}".encode()).decode() for user in ("", "user", "ü"))
_VALID_AUTHORIZATIONS = {
    f"Bearer {TOKEN}",
    f"bearer {TOKEN}",
    *(f"{scheme} {basic}" for basic in _BASIC for scheme in ("Basic", "BASIC")),
}
"""Values of Authorization that must grant access. `generate.authorization` sometimes returns one of them."""

_LISTS = [
    *(("/", f"sort={sort}&limit=2") for sort in generate.SORTS),
    ("/changes", "limit=2"),
    ("/rejected", "limit=1"),
    ("/runs", "limit=1"),
]


def fill(stack: Stack) -> None:
    """Fill the stack so that every list of query-data has several pages."""
    for number in range(1, 10):
        stack.bucket.put_person(str(number), last=f"Łast {number % 3}", birthts=number * 10**11)
        stack.bucket.put(f"bad{number}.csv", b"")
    stack.bucket.put("1.png", b"png")
    stack.process()
    stack.process("/erase?user_id=9&user_id=10")
    stack.process()


def queries(process: Client, query: Client, inputs: int, seed: int) -> Iterator[str]:
    """Send paths and query strings, mostly to query-data, because requests to process-data may start runs."""
    random = Random(seed)
    for _ in range(inputs):
        if random.random() < 0.1:
            path = random.choice(("/", "/", "/erase", "/erase/", "/x", f"/{generate.text(random)!a}"))
            yield from process.problems(Request(path, generate.query_string(random, _PARAMETERS), method="POST"))
        else:
            method = random.choice(("GET",) * 8 + ("HEAD", "POST"))
            path = random.choice(_PATHS)
            yield from query.problems(Request(path, generate.query_string(random, _QUERY_NAMES), method=method))


def cursors(_process: Client, query: Client, inputs: int, seed: int) -> Iterator[str]:
    """Send valid, edited and random cursors to every list, in every sort order."""
    random = Random(seed)
    valid = [(endpoint, cursor) for endpoint in _LISTS for cursor in _follow(query, *endpoint)]
    yield from (f"no cursor for {endpoint}" for endpoint in _LISTS if endpoint not in dict(valid))
    edits = (generate.edited_cursor, generate.random_cursor, generate.rewritten_cursor)
    for _ in range(inputs):
        (path, parameters), cursor = random.choice(valid)
        if random.random() < 0.3:
            _, cursor = random.choice(valid)  # probably of another list
        after = random.choice(edits)(random, cursor) if random.random() < 0.8 else cursor
        yield from query.problems(Request(path, f"{parameters}&{urlencode({'after': after}, errors='replace')}"))


def headers(process: Client, query: Client, inputs: int, seed: int) -> Iterator[str]:
    """Send values of Accept, Authorization, If-None-Match, X-Call-Id and X-Connector."""
    random = Random(seed)
    etag = dict(query.send(Request("/", "limit=1")).headers)["ETag"]
    etags = (etag, f"W/{etag}", "*", f'"a", {etag}', etag * 300, etag[:-1], "", ",", '"')
    for _ in range(inputs):
        authorization = generate.authorization(random)
        fields = {
            "Authorization": authorization,
            "Accept": generate.accept(random),
            "If-None-Match": random.choice(etags),
            "X-Call-Id": random.choice(_CALL_IDS),
            "X-Connector": random.choice(("", "cron-connector")),
        }
        request = Request(random.choice(_PATHS), random.choice(("", "limit=1", "format=html")), fields)
        yield from query.problems(request)
        if request.path != "/healthz":
            has_access = query.send(request).status != 401
            if (has_access and not _has_token(authorization)) or (
                not has_access and authorization in _VALID_AUTHORIZATIONS
            ):
                yield f"access wrongly {'granted' if has_access else 'denied'}: {request}"
        if random.random() < 0.1:
            yield from process.problems(Request("/x", "", fields, "POST"))


def events(process: Client, _query: Client, inputs: int, seed: int) -> Iterator[str]:
    """Send valid and invalid event bodies to process-data. Only a few start scans, which are slow."""
    random = Random(seed)
    for _ in range(inputs):
        body = generate.event_body(random)
        if random.random() < 0.3:
            body = generate.edited_body(random, body)
        fields = AUTHORIZED | {"Content-Type": random.choice(_CONTENT_TYPES)}
        yield from process.problems(Request(headers=fields, method="POST", body=body))


TARGETS: dict[str, ClientFuzz] = {"queries": queries, "cursors": cursors, "headers": headers, "events": events}


def _follow(query: Client, path: str, parameters: str) -> Iterator[str]:
    """Yield the cursors of the first pages of a list."""
    after = ""
    for _ in range(4):
        next_link = json.loads(query.send(Request(path, parameters + after)).body)["next"]
        if next_link is None:
            return
        [cursor] = parse_qs(next_link.removeprefix("?"))["after"]
        yield cursor
        after = f"&after={cursor}"


def _has_token(authorization: str) -> bool:
    """Whether the header has the token according to RFC 6750 or RFC 7617, with any base64 padding."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() == TOKEN
    try:
        return scheme.lower() == "basic" and b64decode(f"{value}==").partition(b":")[2] == TOKEN.encode()
    except ValueError:
        return False
