"""A SIMULATED S3 service for benchmarks and tests at sizes that a real server cannot be filled to in time.

This is not an S3 server. The objects of the bucket `src` are generated from their keys, requests are not
authenticated, and only the requests that Rollcall makes are supported; others get 501 NotImplemented. It runs in a
process of its own, with the standard library alone, and uses as little CPU as possible: it shares the cores with
the code under measurement.

    with simulated_s3(people=200_000, photos=100_000, page_seconds=0.1, get_seconds=0.04) as simulator:
        simulator.endpoint  # "127.0.0.1:port", plain HTTP, any credentials

- `src` holds `<id>.csv` for `people` consecutive ids of equal length and `<id>.png` for `photos` of them, evenly
  spread: ListObjectsV2, GET and HEAD. Listings are delayed by `page_seconds`, objects by `get_seconds`.
- `res` is empty at first: PUT, multipart uploads, GET and HEAD, without delay. Bodies of up to 8 MiB that come in a
  single PUT are kept; of everything else only the size and the ETag.

ETags in `src` identify the key and its version but are not MD5 sums.
"""

import argparse
import asyncio
import hashlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent

MAX_KEYS = 1000
MAX_KEPT_BODY = 8 * 1024 * 1024  # bytes of an object in `res` that a GET can return
MAX_CACHED_PAGES = 256 * 1024 * 1024  # bytes

_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)
_DIGITS = re.compile(rb"[0-9]*")
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_UNSUPPORTED_BODY = re.compile(rb"\r\n(?:transfer-encoding:|x-amz-content-sha256:[ \t]*STREAMING-)", re.IGNORECASE)
_REASONS = {200: "OK", 204: "No Content", 400: "Bad Request", 404: "Not Found", 500: "Error", 501: "Not Implemented"}


def csv_body(user_id: int, version: int = 0) -> bytes:
    """Return the CSV of a user. Its length is the same for every id and version."""
    birthts = 100_000_000_000 + (user_id * 7_919_000_017 + version * 86_400_000) % 800_000_000_000
    row = f"First {user_id % 5_000:04},Łast {user_id % 20_000:05},{birthts}"
    return f"first_name,last_name,birthts\n{row}\n".encode()


@dataclass(frozen=True)
class Simulator:
    """A simulator in another process. Ranges of users are indexes: 0 is the user `first_id`."""

    endpoint: str

    def counts(self) -> dict[str, int]:
        """Return the requests since the last reset: LIST, GET, HEAD and PUT, which includes parts of uploads."""
        counts: dict[str, int] = self._control(action="counts")
        return counts

    def reset(self) -> None:
        self._control(action="reset")

    def cpu_seconds(self) -> float:
        """Return the CPU time that the simulator has used since it started."""
        return float(self._control(action="cpu_seconds"))

    def change(self, first: int, count: int) -> None:
        """Give the CSVs of `count` users new content, ETags and modification times."""
        self._control(action="change", first=first, count=count)

    def fail(self, first: int, count: int) -> None:
        """Answer GET and HEAD of the objects of `count` users with 500, in addition to those that fail already."""
        self._control(action="fail", first=first, count=count)

    def recover(self) -> None:
        """Stop all failures."""
        self._control(action="recover")

    def set_latency(self, page_seconds: float, get_seconds: float) -> None:
        self._control(action="set_latency", page_seconds=page_seconds, get_seconds=get_seconds)

    def _control(self, **command: object) -> Any:
        connection = http.client.HTTPConnection(self.endpoint, timeout=30)
        try:
            connection.request("POST", "/-/control", json.dumps(command))
            response = connection.getresponse()
            body = response.read().decode()
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(body)
        return json.loads(body)


@contextmanager
def simulated_s3(
    *,
    people: int,
    photos: int = 0,
    page_seconds: float = 0,
    get_seconds: float = 0,
    first_id: int = 1_000_000_000,
) -> Iterator[Simulator]:
    """Run a simulator until the end of the block. Raise RuntimeError if it does not start."""
    options = {
        "people": people,
        "photos": photos,
        "page-seconds": page_seconds,
        "get-seconds": get_seconds,
        "first-id": first_id,
    }
    command = [sys.executable, "-m", "tests.s3_simulator", *[f"--{name}={value}" for name, value in options.items()]]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().decode().strip()
            if not endpoint:
                raise RuntimeError("the S3 simulator did not start")
            yield Simulator(endpoint)
        finally:
            process.kill()


class _Template(NamedTuple):
    """The text before and after a user's id, in a listing and in the headers of a response."""

    listed: tuple[str, str]
    headers: tuple[str, str]


def _template(suffix: str, size: int, content_type: str, version: int) -> _Template:
    now = int(time.time())
    modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now))
    return _Template(
        (
            f"{suffix}</Key><LastModified>{modified}</LastModified><ETag>&quot;{suffix[1]}",
            f"{version:06}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>",
        ),
        (
            f"HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Type: {content_type}\r\nContent-Length: {size}\r\n"
            f'Last-Modified: {formatdate(now, usegmt=True)}\r\nETag: "{suffix[1]}',
            f'{version:06}"\r\n',
        ),
    )


class SourceBucket:
    """The bucket `src`. Positions count keys in the listing, indexes count users; both start at 0."""

    def __init__(self, people: int, photos: int, first_id: int) -> None:
        self._width = len(str(first_id))
        if not 0 <= photos <= people:
            raise ValueError(f"invalid photos {photos}: expected 0 to {people}")
        if first_id < 0 or self._width > 18 or len(str(first_id + max(people - 1, 0))) != self._width:
            raise ValueError(f"invalid first_id {first_id}: expected {people} ids of equal length, at most 18 digits")
        self._people, self._photos, self._first_id = people, photos, first_id
        self._padding = "0" * (25 - self._width)  # an ETag has 32 characters: a letter, padding, id, version
        self._version_of = array("H", bytes(2 * people))
        self._failing = bytearray(people)
        self._csv_templates = [self._csv_template(0)]
        self._png_template = _template(".png", len(_PNG), "image/png", 0)

    def _csv_template(self, version: int) -> _Template:
        return _template(".csv", len(csv_body(self._first_id)), "text/csv", version)

    def change(self, first: int, count: int) -> None:
        self._check_range(first, count)
        version = len(self._csv_templates)
        if version > 65_535:
            raise ValueError("too many changes: expected at most 65535")
        self._csv_templates.append(self._csv_template(version))
        self._version_of[first : first + count] = array("H", [version]) * count

    def fail(self, first: int, count: int) -> None:
        self._check_range(first, count)
        self._failing[first : first + count] = b"\1" * count

    def recover(self) -> None:
        self._failing = bytearray(self._people)

    def _check_range(self, first: int, count: int) -> None:
        if first < 0 or count < 0 or first + count > self._people:
            raise ValueError(f"invalid range of {count} users from {first}: expected one within {self._people}")

    def position(self, key: bytes, *, after: bool = False) -> int:
        """Return the position of the first key that is not less than `key`, or that is greater if `after`."""
        digits = _DIGITS.match(key, 0, self._width)
        assert digits is not None
        prefix, suffix = digits[0], key[digits.end() :]
        if missing := self._width - len(prefix):
            # ids that begin with the prefix are all less than `key` or all greater: its next byte is no digit
            is_greater = suffix > b"9"
            index = int(prefix + (b"9" if is_greater else b"0") * missing) + is_greater - self._first_id
            suffix = b""
        else:
            index = int(prefix) - self._first_id
        if index < 0:
            return 0
        if index >= self._people:
            return self._people + self._photos
        names = [b".csv", b".png"][: 1 + self._has_photo(index)]
        return self._position_of(index) + sum(name < suffix or (after and name == suffix) for name in names)

    def key_at(self, position: int) -> str:
        index = self._index_at(position)
        return f"{self._first_id + index}{'.csv' if position == self._position_of(index) else '.png'}"

    def entries(self, start: int, end: int) -> list[str]:
        """Return the XML of the keys at these positions."""
        if start >= end:
            return []
        first, last = self._index_at(start), self._index_at(end - 1)
        people, photos, padding, templates = self._people, self._photos, self._padding, self._csv_templates
        png_1, png_2 = self._png_template.listed
        entries: list[str] = []
        photos_before = first * photos // people
        for index, version in enumerate(self._version_of[first : last + 1], first):
            user_id = str(self._first_id + index)
            csv_1, csv_2 = templates[version].listed
            entries.append(f"<Contents><Key>{user_id}{csv_1}{padding}{user_id}{csv_2}")
            photos_until = (index + 1) * photos // people
            if photos_until != photos_before:
                photos_before = photos_until
                entries.append(f"<Contents><Key>{user_id}{png_1}{padding}{user_id}{png_2}")
        offset = start - self._position_of(first)
        return entries[offset : offset + end - start]

    def read(self, key: str) -> tuple[str, bytes] | None:
        """Return the status line and headers of an object, and its body, or None if there is no such key.

        Raise OSError if the object fails.
        """
        user_id, suffix = key[:-4], key[-4:]
        if len(user_id) != self._width or not user_id.isdecimal():
            return None
        index = int(user_id) - self._first_id
        if not 0 <= index < self._people:
            return None
        version = self._version_of[index]
        if suffix == ".csv":
            template, body = self._csv_templates[version], csv_body(self._first_id + index, version)
        elif suffix == ".png" and self._has_photo(index):
            template, body = self._png_template, _PNG
        else:
            return None
        if self._failing[index]:
            raise OSError(key)
        before_etag, after_etag = template.headers
        return f"{before_etag}{self._padding}{user_id}{after_etag}", body

    def _has_photo(self, index: int) -> bool:
        return (index + 1) * self._photos // self._people > index * self._photos // self._people

    def _position_of(self, index: int) -> int:
        """Return the position of a user's CSV."""
        return index + index * self._photos // self._people

    def _index_at(self, position: int) -> int:
        return ((position + 1) * self._people - 1) // (self._people + self._photos)


@dataclass(frozen=True)
class _StoredObject:
    size: int
    etag: str
    modified: str
    body: bytes | None


@dataclass
class _Upload:
    key: str
    parts: dict[int, _StoredObject] = field(default_factory=dict)


class ResultBucket:
    """The bucket `res`. Keys are as they stand in the request's path."""

    def __init__(self) -> None:
        self.objects: dict[str, _StoredObject] = {}
        self.uploads: dict[str, _Upload] = {}

    def start_upload(self, key: str) -> str:
        upload_id = os.urandom(16).hex()
        self.uploads[upload_id] = _Upload(key)
        return upload_id

    def complete_upload(self, upload_id: str, numbers: list[int]) -> _StoredObject:
        """Assemble an object from these parts. Raise KeyError if a part or the upload is unknown."""
        upload = self.uploads[upload_id]
        parts = [upload.parts[number] for number in numbers]
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
        etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
        stored = _StoredObject(sum(part.size for part in parts), etag, formatdate(usegmt=True), None)
        self.objects[upload.key] = stored
        del self.uploads[upload_id]
        return stored


class _Body:
    """The body of a request while it arrives: its MD5, and its bytes if they are kept."""

    def __init__(self, length: int, *, keep: bool) -> None:
        self.size = self.missing = length
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._chunks: list[bytes] | None = [] if keep else None

    def feed(self, data: bytes) -> bytes:
        """Consume the bytes that belong to the body and return the rest."""
        chunk, rest = data[: self.missing], data[self.missing :]
        self.missing -= len(chunk)
        self.md5.update(chunk)
        if self._chunks is not None:
            self._chunks.append(chunk)
        return rest

    @property
    def content(self) -> bytes | None:
        return None if self._chunks is None else b"".join(self._chunks)


class _Response(NamedTuple):
    """A response; `head` lacks the headers that all responses share. `delay` is in seconds."""

    head: str
    body: bytes = b""
    delay: float = 0


def _xml(status: int, xml: str, *, delay: float = 0) -> _Response:
    body = (_XML + xml).encode(errors="replace")
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return _Response(head, body, delay)


def _error(status: int, code: str, *, message: str = "", delay: float = 0) -> _Response:
    return _xml(status, f"<Error><Code>{code}</Code><Message>{escape(message or code)}</Message></Error>", delay=delay)


_NOT_IMPLEMENTED = _error(501, "NotImplemented", message="the simulator does not implement this request")


class Service:
    """Both buckets, the latencies and the counts; turns requests into responses."""

    def __init__(self, source: SourceBucket, *, page_seconds: float, get_seconds: float) -> None:
        self._source = source
        self._result = ResultBucket()
        self._page_seconds, self._get_seconds = page_seconds, get_seconds
        self._counts = dict.fromkeys(("LIST", "GET", "HEAD", "PUT"), 0)
        self._pages: dict[str, _Response] = {}
        self._pages_size = 0
        self.refresh_date()

    def refresh_date(self) -> None:
        self.common_headers = f"Server: S3Simulator\r\nx-amz-request-id: 0\r\nDate: {formatdate(usegmt=True)}\r\n"

    def respond(self, method: str, target: str, body: _Body | None) -> _Response:
        """Return the response to a request; `target` is its path and query."""
        if target.startswith("/src/") and method in ("GET", "HEAD"):
            self._counts[method] += 1
            return self._get_source(target[5:])
        if target.startswith("/src?") and method == "GET":
            self._counts["LIST"] += 1
            return self._list_source(target)
        if target.startswith("/res"):
            return self._respond_result(method, target[4:], body)
        if target == "/-/control" and body is not None:
            return self._control(json.loads(body.content or b"{}"))
        if target.startswith("/src"):
            return _NOT_IMPLEMENTED
        return _error(404, "NoSuchBucket")

    def _get_source(self, key: str) -> _Response:
        try:
            found = self._source.read(key)
        except OSError:
            return _error(500, "InternalError", delay=self._get_seconds)
        if found is None:
            return _error(404, "NoSuchKey", delay=self._get_seconds)
        return _Response(*found, self._get_seconds)

    def _list_source(self, target: str) -> _Response:
        page = self._pages.get(target)
        if page is None:
            page = self._make_page(target)
            if self._pages_size + len(page.body) <= MAX_CACHED_PAGES:
                self._pages_size += len(page.body)
                self._pages[target] = page
        return page._replace(delay=self._page_seconds)

    def _make_page(self, target: str) -> _Response:
        """Return a page of ListObjectsV2."""
        query = _parse_query(target)
        if query.get("list-type") != "2" or query.get("delimiter", "/") not in ("", "/"):
            return _NOT_IMPLEMENTED
        if not (max_keys := query.get("max-keys", "1000")).isdecimal():
            return _error(400, "InvalidArgument", message="invalid max-keys: expected a number")
        prefix = _encode(query.get("prefix", ""))
        marker = _encode(query.get("continuation-token") or query.get("start-after", ""))
        last = self._source.position(prefix + b"\xff")  # keys are ASCII
        start = min(max(self._source.position(prefix), self._source.position(marker, after=True)), last)
        end = min(start + min(int(max_keys), MAX_KEYS), last)
        is_truncated = start < end < last
        fields = {
            "Name": "src",
            "Prefix": quote(prefix) if "encoding-type" in query else escape(query.get("prefix", "")),
            "Delimiter": query.get("delimiter") or None,
            "EncodingType": query.get("encoding-type"),
            "KeyCount": end - start,
            "MaxKeys": max_keys,
            "IsTruncated": str(is_truncated).lower(),
            "NextContinuationToken": self._source.key_at(end - 1) if is_truncated else None,
        }
        head = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items() if value is not None)
        entries = "".join(self._source.entries(start, end))
        return _xml(200, f'<ListBucketResult xmlns="{_XMLNS}">{head}{entries}</ListBucketResult>')

    def _respond_result(self, method: str, target: str, body: _Body | None) -> _Response:
        if method in self._counts:
            self._counts[method] += 1
        path, _, _ = target.partition("?")
        key, query = path.removeprefix("/"), _parse_query(target)
        upload_id = query.get("uploadId")
        if not key:
            is_listing_uploads = method == "GET" and "uploads" in query
            return self._list_uploads() if is_listing_uploads else _NOT_IMPLEMENTED
        if method in ("GET", "HEAD"):
            return self._get_result(method, key)
        if method == "PUT" and body is not None:
            return self._put_result(key, query, body)
        if method == "POST" and "uploads" in query:
            upload_id = self._result.start_upload(key)
            return _xml(200, _element("InitiateMultipartUploadResult", key, f"<UploadId>{upload_id}</UploadId>"))
        if upload_id not in self._result.uploads:
            return _NOT_IMPLEMENTED if upload_id is None else _error(404, "NoSuchUpload")
        if method == "DELETE":
            del self._result.uploads[upload_id]
            return _Response("HTTP/1.1 204 No Content\r\n")
        return self._complete_upload(key, upload_id, body)

    def _get_result(self, method: str, key: str) -> _Response:
        stored = self._result.objects.get(key)
        if stored is None:
            return _error(404, "NoSuchKey")
        if stored.body is None and method == "GET":
            return _error(501, "NotImplemented", message="the simulator does not keep the bodies of large objects")
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {stored.size}\r\n"
            f'Last-Modified: {stored.modified}\r\nETag: "{stored.etag}"\r\n'
        )
        return _Response(head, stored.body or b"")

    def _put_result(self, key: str, query: Mapping[str, str], body: _Body) -> _Response:
        stored = _StoredObject(body.size, body.md5.hexdigest(), formatdate(usegmt=True), body.content)
        if "uploadId" not in query:
            self._result.objects[key] = stored
        elif upload := self._result.uploads.get(query["uploadId"]):
            upload.parts[int(query["partNumber"])] = stored
        else:
            return _error(404, "NoSuchUpload")
        return _Response(f'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "{stored.etag}"\r\n')

    def _complete_upload(self, key: str, upload_id: str, body: _Body | None) -> _Response:
        content = (body and body.content) or b""
        numbers = [int(number) for number in re.findall(rb"<PartNumber>\s*([0-9]+)", content)]
        try:
            stored = self._result.complete_upload(upload_id, numbers)
        except KeyError:
            return _error(400, "InvalidPart")
        return _xml(200, _element("CompleteMultipartUploadResult", key, f"<ETag>&quot;{stored.etag}&quot;</ETag>"))

    def _list_uploads(self) -> _Response:
        uploads = "".join(
            f"<Upload><Key>{escape(unquote(upload.key))}</Key><UploadId>{upload_id}</UploadId></Upload>"
            for upload_id, upload in self._result.uploads.items()
        )
        return _xml(200, f'<ListMultipartUploadsResult xmlns="{_XMLNS}">{uploads}</ListMultipartUploadsResult>')

    def _control(self, command: dict[str, Any]) -> _Response:
        try:
            result = json.dumps(self._execute(**command)).encode()
        except (TypeError, ValueError) as error:
            result, status = str(error).encode(), "400 Bad Request"
        else:
            status = "200 OK"
        return _Response(f"HTTP/1.1 {status}\r\nContent-Length: {len(result)}\r\n", result)

    def _execute(self, action: str, **arguments: Any) -> object:
        match action:
            case "counts":
                return self._counts
            case "cpu_seconds":
                return time.process_time()
            case "reset":
                self._counts = dict.fromkeys(self._counts, 0)
            case "change":
                self._source.change(**arguments)
                self._pages.clear()
                self._pages_size = 0
            case "fail":
                self._source.fail(**arguments)
            case "recover":
                self._source.recover()
            case "set_latency":
                self._page_seconds, self._get_seconds = arguments["page_seconds"], arguments["get_seconds"]
            case _:
                raise ValueError(f"unknown action {action!r}")
        return None


def _element(name: str, key: str, content: str) -> str:
    return f'<{name} xmlns="{_XMLNS}"><Bucket>res</Bucket><Key>{escape(unquote(key))}</Key>{content}</{name}>'


def _parse_query(target: str) -> dict[str, str]:
    query = target.partition("?")[2]
    return {name: values[0] for name, values in parse_qs(query, True, errors="surrogateescape").items()}


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


class _Connection(asyncio.Protocol):
    """A connection: HTTP/1.1 with keep-alive. Responses are sent in order; asyncio sets TCP_NODELAY."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._method = self._target = ""
        self._body: _Body | None = None  # of a request that has not arrived completely
        self._is_delayed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        self._advance()

    def _advance(self) -> None:
        """Handle the requests received so far. A delayed response holds up those behind it."""
        while self._received and not self._is_delayed:
            if self._body is None:
                head, separator, rest = self._received.partition(b"\r\n\r\n")
                if not separator:
                    return
                self._received = rest
                self._start_request(head)
            else:
                self._received = self._body.feed(self._received)
                self._respond_if_complete()

    def _start_request(self, head: bytes) -> None:
        self._method, self._target, _ = head[: head.find(b"\r\n")].decode("latin-1").split(" ")
        if self._method in ("GET", "HEAD", "DELETE"):
            self._respond(None)
        elif _UNSUPPORTED_BODY.search(head):
            self._send(_NOT_IMPLEMENTED)
            self._transport.close()
        else:
            length = _CONTENT_LENGTH.search(head)
            size = int(length[1]) if length else 0
            self._body = _Body(size, keep=size <= MAX_KEPT_BODY and "partNumber=" not in self._target)
            self._respond_if_complete()

    def _respond_if_complete(self) -> None:
        if self._body is not None and not self._body.missing:
            body, self._body = self._body, None
            self._respond(body)

    def _respond(self, body: _Body | None) -> None:
        response = self._service.respond(self._method, self._target, body)
        if response.delay:
            self._is_delayed = True
            self._loop.call_later(response.delay, self._send_delayed, response)
        else:
            self._send(response)

    def _send_delayed(self, response: _Response) -> None:
        self._is_delayed = False
        if not self._transport.is_closing():
            self._send(response)
            self._advance()

    def _send(self, response: _Response) -> None:
        head = f"{response.head}{self._service.common_headers}\r\n".encode()
        self._transport.write(head if self._method == "HEAD" else head + response.body)


async def _serve(service: Service) -> None:
    """Print the endpoint and serve until standard input ends, which it does when the parent process ends."""
    loop = asyncio.get_running_loop()
    is_over = asyncio.Event()
    loop.add_reader(sys.stdin, is_over.set)
    server = await loop.create_server(lambda: _Connection(service), "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()
    print(f"{host}:{port}", flush=True)
    while not is_over.is_set():
        service.refresh_date()
        with suppress(TimeoutError):
            await asyncio.wait_for(is_over.wait(), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate an S3 service until standard input ends.")
    parser.add_argument("--people", type=int, required=True)
    parser.add_argument("--photos", type=int, default=0)
    parser.add_argument("--page-seconds", type=float, default=0)
    parser.add_argument("--get-seconds", type=float, default=0)
    parser.add_argument("--first-id", type=int, default=1_000_000_000)
    options = parser.parse_args()
    try:
        source = SourceBucket(options.people, options.photos, options.first_id)
    except ValueError as error:
        parser.error(str(error))
    asyncio.run(_serve(Service(source, page_seconds=options.page_seconds, get_seconds=options.get_seconds)))


if __name__ == "__main__":
    main()
