"""Requests to both functions: queries, cursors, headers and bodies of events, valid, nearly so, and not at all."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from random import Random
from urllib.parse import parse_qs, urlencode

from tests.fuzz import generators as generate
from tests.fuzz.client import AUTHORIZED, TOKEN, Client, Request
from tests.stack import Stack

FuzzClients = Callable[[Client, Client, int, int], Iterator[str]]
"""Takes the clients of process-data and query-data, the number of inputs and the seed, and yields findings."""

_PATHS = (
    *["/"] * 6, "/stats", "/stats", "/changes", "/rejected", "/runs", "/photo/1", "/photo/2", "/photo/99", "/healthz",
    "/openapi.json", "/query-data/runs", "/query-data", "//", "/photo/x", "/photo/1/", "/STATS", "/a\tb", "/\xff",
    "/%00", "/..", "/" + "x" * 3000,
)  # fmt: skip
_QUERY_NAMES = ("is_image_exists", "min_age", "max_age", "user_id", "name", "sort", "limit", "after", "count", "format")
_PROCESS_NAMES = ("user_id", "since", "fan_out", "accept_empty")
_CALL_IDS = ("", "1", "\xff" * 100, "x" * 5000, "a\tb")
_CONTENT_TYPES = ("application/json", "text/plain", "", "application/x-www-form-urlencoded")
_BASIC = (b64encode(f"{user}:{TOKEN}".encode()).decode() for user in ("", "user", "ü"))
_VALID = {
    f"Bearer {TOKEN}",
    f"bearer {TOKEN}",
    *(f"{scheme} {basic}" for basic in _BASIC for scheme in ("Basic", "BASIC")),
}
"""What has to give access, among what is generated."""

_LISTS = [
    *(("/", f"sort={sort}&limit=2") for sort in generate.SORTS),
    ("/changes", "limit=2"),
    ("/rejected", "limit=1"),
    ("/runs", "limit=1"),
]


def fill(stack: Stack) -> None:
    """What the requests ask for: several pages of everything."""
    for number in range(1, 10):
        stack.bucket.put_person(str(number), last=f"Łast {number % 3}", birthts=number * 10**11)
        stack.bucket.put(f"bad{number}.csv", b"")
    stack.bucket.put("1.png", b"png")
    stack.process()
    stack.process("/erase?user_id=9&user_id=10")
    stack.process()


def queries(process: Client, query: Client, inputs: int, seed: int) -> Iterator[str]:
    """Paths and query strings, to query-data for the most part: a request to process-data may be a run."""
    random = Random(seed)
    for _ in range(inputs):
        if random.random() < 0.1:
            path = random.choice(("/", "/", "/erase", "/erase/", "/x", f"/{generate.text(random)!a}"))
            yield from process.problems(Request(path, generate.query_string(random, _PROCESS_NAMES), method="POST"))
        else:
            method = random.choice(("GET",) * 8 + ("HEAD", "POST"))
            path = random.choice(_PATHS)
            yield from query.problems(Request(path, generate.query_string(random, _QUERY_NAMES), method=method))


def cursors(_process: Client, query: Client, inputs: int, seed: int) -> Iterator[str]:
    """Cursors of every order and list: those that were served, changed ones, and made ones."""
    random = Random(seed)
    served = [(listed, cursor) for listed in _LISTS for cursor in _follow(query, *listed)]
    yield from (f"no cursor for {listed}" for listed in _LISTS if listed not in dict(served))
    changes = (generate.edited_cursor, generate.made_cursor, generate.rewritten_cursor)
    for _ in range(inputs):
        (path, parameters), cursor = random.choice(served)
        if random.random() < 0.3:
            _, cursor = random.choice(served)
        after = random.choice(changes)(random, cursor) if random.random() < 0.8 else cursor
        yield from query.problems(Request(path, f"{parameters}&{urlencode({'after': after}, errors='replace')}"))


def headers(process: Client, query: Client, inputs: int, seed: int) -> Iterator[str]:
    """Accept, Authorization, If-None-Match, and the headers that end up in the log."""
    random = Random(seed)
    known = dict(query.ask(Request("/", "limit=1")).headers)["ETag"]
    etags = (known, f"W/{known}", "*", f'"a", {known}', known * 300, known[:-1], "", ",", '"')
    for _ in range(inputs):
        authorization = generate.authorization(random)
        sent = {
            "Authorization": authorization,
            "Accept": generate.accept(random),
            "If-None-Match": random.choice(etags),
            "X-Call-Id": random.choice(_CALL_IDS),
            "X-Connector": random.choice(("", "cron-connector")),
        }
        request = Request(random.choice(_PATHS), random.choice(("", "limit=1", "format=html")), sent)
        yield from query.problems(request)
        if request.path != "/healthz":
            has_access = query.ask(request).status != 401
            if (has_access and not _has_token(authorization)) or (not has_access and authorization in _VALID):
                yield f"access {'given' if has_access else 'denied'}: {request}"
        if random.random() < 0.1:
            yield from process.problems(Request("/x", "", sent, "POST"))


def events(process: Client, _query: Client, inputs: int, seed: int) -> Iterator[str]:
    """Bodies for process-data: S3's notifications, and what is none. A few are about objects of the bucket, and run."""
    random = Random(seed)
    for _ in range(inputs):
        body = generate.event_body(random)
        if random.random() < 0.3:
            body = generate.edited_body(random, body)
        sent = AUTHORIZED | {"Content-Type": random.choice(_CONTENT_TYPES)}
        yield from process.problems(Request(headers=sent, method="POST", body=body))


TARGETS: dict[str, FuzzClients] = {"queries": queries, "cursors": cursors, "headers": headers, "events": events}


def _follow(query: Client, path: str, parameters: str) -> Iterator[str]:
    """The cursors of the first pages of a list."""
    after = ""
    for _ in range(4):
        following = json.loads(query.ask(Request(path, parameters + after)).body)["next"]
        if following is None:
            return
        [cursor] = parse_qs(following.removeprefix("?"))["after"]
        yield cursor
        after = f"&after={cursor}"


def _has_token(authorization: str) -> bool:
    """Whether it has the token as RFC 6750 and RFC 7617 say, the base64 decoded with more or less padding."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() == TOKEN
    try:
        return scheme.lower() == "basic" and b64decode(f"{value}==").partition(b":")[2] == TOKEN.encode()
    except ValueError:
        return False
