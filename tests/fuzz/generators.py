"""Generates parts of requests from texts and values that programs often mishandle."""

import json
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from random import Random
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from tests.fuzz.client import TOKEN

_TEXTS = (
    "", " ", "0", "1", "2", "30", "-1", "1.5", "200.0001", f"0.{'0' * 19}1", "NaN", "١٢", "1" * 18, "1" * 19,
    "true", "FALSE", "null", "a", "Å", "%", "_", "\\", "'", "''; select 1 --", '"', "\0", "\r\nX: y", "\x85", "😀",
    "\ud800", "\ufdd0", "\U0010ffff", "ﬀ", "İ", "x" * 200, "x" * 201, "x" * 3000, "user_id", "-last_name", "birthdate",
    "json", "csv", "ndjson", "html", "{}", "[" * 2000, "1000", "1001", "999999999", "=1+1", "<script>", "../..",
)  # fmt: skip
SORTS = ("user_id", "-user_id", "birthdate", "-birthdate", "last_name", "-last_name")
_MEDIA_TYPES = (
    "text/html", "text/csv", "application/json", "application/x-ndjson", "text/*", "*/*", "image/png", "*", "text", "",
)  # fmt: skip
_MEDIA_TYPE_PARAMETERS = (
    "", "", ";q=0", ";q=1", ";q=0.5", ";q=-1", ";q=2", ";q=nan", ";q=inf", ";q=", ";Q=1", ';v="a,b"', "; charset=utf-8",
)  # fmt: skip
_SCHEMES = ("Bearer", "bearer", "BASIC", "Basic", "Digest", "", "Bearer\t", "Basic Basic")
_STEMS = (
    "1", "2", "40", "1" * 18, "1" * 19, "", "a b", "ä", "a/b", "\0", "%ff", "+", "%2B", "%", "x" * 2000, "\U0010ffff",
)  # fmt: skip
_PIECES = (b"", b"\xff", b"\0", b'"', b"{", b"[" * 5000, b"]", b",", b"1" * 5000, b" " * 1024 * 1024)


def query_string(random: Random, names: tuple[str, ...]) -> str:
    pairs = [(random.choice(names), text(random)) for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5)))]
    if random.random() < 0.05:
        pairs.append((text(random), text(random)))
    query = urlencode(pairs, errors="surrogatepass")
    if random.random() < 0.1:
        at = random.randrange(len(query) + 1)
        query = query[:at] + random.choice(("&", "=", ";", "%", "%zz", "%ff", "+", "?", "#")) + query[at:]
    return query


def text(random: Random) -> str:
    suffix_length = random.randrange(4) if random.random() < 0.1 else 0
    return random.choice(_TEXTS) + "".join(chr(random.randrange(0x110000)) for _ in range(suffix_length))


def edited_cursor(random: Random, cursor: str) -> str:
    at = random.randrange(len(cursor) + 1)
    piece = random.choice(("", "A", "=", "==", "+", "/", "-", "_", "\n", "ä", "\0"))
    return cursor[:at] + piece + cursor[at + random.randrange(3) :]


def rewritten_cursor(random: Random, cursor: str) -> str:
    """Return the cursor with one value replaced."""
    values = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    values[random.randrange(len(values))] = _value(random)
    return _encode(values)


def random_cursor(random: Random, _cursor: str) -> str:
    """Return a cursor that encodes a list of random values, or sometimes a value that is not in a list."""
    values = [_value(random) for _ in range(random.choice((0, 2, 3, 3, 4, 4, 5)))]
    return _encode(values if random.random() < 0.9 else _value(random))


def _value(random: Random) -> Any:
    numbers = (0, -1, 1, 2**31, 2**63 - 1, 2**63, 10**30, 0.5, float("nan"), float("inf"))
    dates = ("0000-01-01", "2024-02-30", "9999-12-31", "0001-01-01", "2024-1-1", "infinity", "epoch", "now")
    others: tuple[Any, ...] = (None, True, {}, [], ["user_id"], {"a": 1}, "changes", *SORTS)
    return random.choice((random.choice(numbers), random.choice(dates), random.choice(others), text(random)))


def _encode(value: Any) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def accept(random: Random) -> str:
    types = [
        random.choice(_MEDIA_TYPES) + random.choice(_MEDIA_TYPE_PARAMETERS)
        for _ in range(random.choice((0, 1, 1, 2, 3, 50)))
    ]
    return random.choice((",", ", ", ";", " ")).join(types) + random.choice(("", "", "", ",", '"', "\xff"))


def authorization(random: Random) -> str:
    tokens = (TOKEN, TOKEN, TOKEN[:-1], TOKEN.upper(), f" {TOKEN} ", f"{TOKEN}\xff", "", "\xff", TOKEN * 100)
    users = ("", "user", "a:b", "ü")
    scheme, token = random.choice(_SCHEMES), random.choice(tokens)
    if scheme.lower().endswith("basic") and random.random() < 0.9:
        token = b64encode(f"{random.choice(users)}:{token}".encode(random.choice(("utf-8", "latin-1")))).decode()
        token = random.choice((token, token, token, token.rstrip("="), token[1:], f"{token}="))
    return random.choice((f"{scheme} {token}", f"{scheme} {token}", f"{scheme}  {token}", f"{scheme}{token}", token))


def event_body(random: Random) -> bytes:
    records = [_record(random) for _ in range(random.choice((0, 1, 1, 1, 2, 5)))]
    if random.random() < 0.01:
        records = [_valid_record("src", f"{number}.csv") for number in range(1001)]
    value = random.choice(
        ({"Records": records},) * 8 + (records, {"records": records}, {"Records": _value(random)}, _value(random))
    )
    return json.dumps(value, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")


def _record(random: Random) -> Any:
    other_buckets: tuple[Any, ...] = ("res", "other", "", None, 1, {})
    # rarely the source bucket: such a record makes the run scan, which is slow
    bucket = "src" if random.random() < 0.03 else random.choice(other_buckets)
    key = random.choice((_key(random), _key(random), _key(random), _value(random)))
    record = _valid_record(bucket, key)
    if random.random() < 0.2:
        part = random.choice((record, record["s3"], record["s3"]["object"], record["s3"]["bucket"]))
        part[random.choice(list(part))] = _value(random)
    return record


def _valid_record(bucket: Any, key: Any) -> dict[str, Any]:
    return {"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}


def _key(random: Random) -> str:
    key = random.choice(_STEMS) + random.choice((".csv", ".csv", ".png", ".jpeg", ".CSV", ".txt", "", ".csv/"))
    return random.choice((quote_plus, quote, str))(key)


def edited_body(random: Random, body: bytes) -> bytes:
    at = random.randrange(len(body) + 1)
    return body[:at] + random.choice(_PIECES) + body[at + random.randrange(3) :]
