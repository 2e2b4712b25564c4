"""The responses to requests for both buckets."""

import json
import re
import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

from tests.s3_simulator.messages import NOT_IMPLEMENTED, XMLNS, Body, Response, error_response, xml_response
from tests.s3_simulator.result import ResultBucket, StoredObject
from tests.s3_simulator.source import SourceBucket

MAX_KEYS = 1000  # of a listing page
MAX_CACHE_SIZE = 256 * 1024 * 1024  # bytes


class Service:
    """Both buckets, with the delays of `src` and the counts of requests."""

    def __init__(self, source: SourceBucket, *, page_seconds: float, get_seconds: float) -> None:
        self._source = source
        self._result = ResultBucket()
        self._page_seconds, self._get_seconds = page_seconds, get_seconds
        self._counts = dict.fromkeys(("LIST", "GET", "HEAD", "PUT"), 0)
        self._pages: dict[str, Response] = {}
        self._pages_size = 0
        self.refresh_date()

    def refresh_date(self) -> None:
        self.common_headers = f"Server: S3Simulator\r\nx-amz-request-id: 0\r\nDate: {formatdate(usegmt=True)}\r\n"

    def respond(self, method: str, target: str, body: Body | None) -> Response:
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
            return NOT_IMPLEMENTED
        return error_response(404, "NoSuchBucket")

    def _get_source(self, key: str) -> Response:
        try:
            content = self._source.read(key)
        except OSError:
            return error_response(500, "InternalError", delay=self._get_seconds)
        if content is None:
            return error_response(404, "NoSuchKey", delay=self._get_seconds)
        return Response(*content, self._get_seconds)

    def _list_source(self, target: str) -> Response:
        page = self._pages.get(target)
        if page is None:
            page = self._make_page(target)
            if self._pages_size + len(page.body) <= MAX_CACHE_SIZE:
                self._pages_size += len(page.body)
                self._pages[target] = page
        return page._replace(delay=self._page_seconds)

    def _make_page(self, target: str) -> Response:
        """Return a page of ListObjectsV2."""
        query = _parse_query(target)
        if query.get("list-type") != "2" or query.get("delimiter", "/") not in ("", "/"):
            return NOT_IMPLEMENTED
        if not (max_keys := query.get("max-keys", "1000")).isdecimal():
            return error_response(400, "InvalidArgument", message="invalid max-keys: expected a number")
        prefix = _encode(query.get("prefix", ""))
        marker = _encode(query.get("continuation-token") or query.get("start-after", ""))
        last = self._source.position(prefix + b"\xff")  # after all keys with the prefix, as keys are ASCII
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
        return xml_response(200, f'<ListBucketResult xmlns="{XMLNS}">{head}{entries}</ListBucketResult>')

    def _respond_result(self, method: str, target: str, body: Body | None) -> Response:
        if method in self._counts:
            self._counts[method] += 1
        path, _, _ = target.partition("?")
        key, query = path.removeprefix("/"), _parse_query(target)
        upload_id = query.get("uploadId")
        if not key:
            is_listing_uploads = method == "GET" and "uploads" in query
            return self._list_uploads() if is_listing_uploads else NOT_IMPLEMENTED
        if method in ("GET", "HEAD"):
            return self._get_result(method, key)
        if method == "PUT" and body is not None:
            return self._put_result(key, query, body)
        if method == "POST" and "uploads" in query:
            upload_id = self._result.start_upload(key)
            return xml_response(
                200, _element("InitiateMultipartUploadResult", key, f"<UploadId>{upload_id}</UploadId>")
            )
        if upload_id not in self._result.uploads:
            return NOT_IMPLEMENTED if upload_id is None else error_response(404, "NoSuchUpload")
        if method == "DELETE":
            del self._result.uploads[upload_id]
            return Response("HTTP/1.1 204 No Content\r\n")
        return self._complete_upload(key, upload_id, body)

    def _get_result(self, method: str, key: str) -> Response:
        stored = self._result.objects.get(key)
        if stored is None:
            return error_response(404, "NoSuchKey")
        if stored.body is None and method == "GET":
            return error_response(
                501,
                "NotImplemented",
                message="bodies of multipart uploads and of objects over 8 MiB are not kept",
            )
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {stored.size}\r\n"
            f'Last-Modified: {stored.modified}\r\nETag: "{stored.etag}"\r\n'
        )
        return Response(head, stored.body or b"")

    def _put_result(self, key: str, query: Mapping[str, str], body: Body) -> Response:
        stored = StoredObject(body.size, body.md5.hexdigest(), formatdate(usegmt=True), body.content)
        if "uploadId" not in query:
            self._result.objects[key] = stored
        elif upload := self._result.uploads.get(query["uploadId"]):
            upload.parts[int(query["partNumber"])] = stored
        else:
            return error_response(404, "NoSuchUpload")
        return Response(f'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "{stored.etag}"\r\n')

    def _complete_upload(self, key: str, upload_id: str, body: Body | None) -> Response:
        content = (body and body.content) or b""
        numbers = [int(number) for number in re.findall(rb"<PartNumber>\s*([0-9]+)", content)]
        try:
            stored = self._result.complete_upload(upload_id, numbers)
        except KeyError:
            return error_response(400, "InvalidPart")
        return xml_response(
            200, _element("CompleteMultipartUploadResult", key, f"<ETag>&quot;{stored.etag}&quot;</ETag>")
        )

    def _list_uploads(self) -> Response:
        uploads = "".join(
            f"<Upload><Key>{escape(unquote(upload.key))}</Key><UploadId>{upload_id}</UploadId></Upload>"
            for upload_id, upload in self._result.uploads.items()
        )
        return xml_response(200, f'<ListMultipartUploadsResult xmlns="{XMLNS}">{uploads}</ListMultipartUploadsResult>')

    def _control(self, command: dict[str, Any]) -> Response:
        try:
            result = json.dumps(self._execute(**command)).encode()
        except (TypeError, ValueError) as error:
            result, status = str(error).encode(), "400 Bad Request"
        else:
            status = "200 OK"
        return Response(f"HTTP/1.1 {status}\r\nContent-Length: {len(result)}\r\n", result)

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
    return f'<{name} xmlns="{XMLNS}"><Bucket>res</Bucket><Key>{escape(unquote(key))}</Key>{content}</{name}>'


def _parse_query(target: str) -> dict[str, str]:
    query = target.partition("?")[2]
    return {name: values[0] for name, values in parse_qs(query, True, errors="surrogateescape").items()}


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
