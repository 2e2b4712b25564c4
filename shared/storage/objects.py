"""Objects in S3: list, get and put, on any service that speaks it."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from html import unescape
from io import BufferedReader, RawIOBase
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import certifi
import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import BaseHTTPResponse

from .errors import ObjectMissing, ObjectTooLarge, Refused, SettingError, StorageError, Unavailable
from .settings import ObjectsSettings
from .tls import describe, make_context

MEBIBYTE = 1024 * 1024
CHUNK = 64 * 1024
"""Bytes of an object that are read at a time."""
MAX_PAGE = 1000
"""Entries of a listing that S3 returns at a time."""
PART = 5 * MEBIBYTE  # the least: S3 allows 10,000 parts, up to 48 GiB an object

# Idempotent methods alone are repeated, and a silent server is asked only twice.
_RETRIES = urllib3.Retry(
    total=2,
    read=1,
    backoff_factor=0.1,
    status_forcelist=(500, 502, 503, 504),
    raise_on_status=False,
    respect_retry_after_header=False,  # it may be hours
)


class ObjectInfo(NamedTuple):
    """One object of a listing. `size` is in bytes, `modified` as S3 sent it: ISO 8601, UTC."""

    key: str
    etag: str
    size: int
    modified: str


@dataclass(frozen=True, slots=True)
class ListingPage:
    """Up to 1,000 entries in order of their keys; a folder ("a/") stands for all that it contains.

    Bytes of a key that are not UTF-8 are surrogates, as with `surrogateescape`. `token` is None on the last page.
    """

    objects: list[ObjectInfo]
    folders: list[str]
    token: str | None


@dataclass(frozen=True, slots=True)
class Object:
    """What one GET answered: the body with the ETag and Last-Modified that belong to it."""

    body: bytes
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class Stream:
    """An object that is being read: its ETag, its size in bytes, and the body to iterate over once."""

    etag: str
    size: int
    chunks: Iterator[bytes]


class Objects:
    """A client of one S3 service. Threads may share it; it keeps `connections` of them alive."""

    def __init__(self, settings: ObjectsSettings, *, connections: int = 4) -> None:
        # reading the authorities takes 30 ms
        tls = make_context("s3_ca_file", settings.s3_ca_file, certifi.where()) if settings.s3_secure else None
        pool = urllib3.PoolManager(
            maxsize=connections,
            timeout=urllib3.Timeout(connect=min(3, settings.s3_timeout), read=settings.s3_timeout),
            retries=_RETRIES,
            ssl_context=tls,
        )
        try:
            self._client = _Client(
                endpoint=settings.s3_endpoint,
                access_key=settings.s3_access_key,
                secret_key=settings.s3_secret_key,
                secure=settings.s3_secure,
                region=settings.s3_region,
                http_client=pool,
            )
        except ValueError as error:
            raise SettingError(f"s3_endpoint={settings.s3_endpoint!r} is not allowed: {error}") from error
        self._endpoint = settings.s3_endpoint

    def list_page(
        self, bucket: str, *, prefix: str = "", start_after: str = "", token: str | None = None, limit: int = MAX_PAGE
    ) -> ListingPage:
        """Return one page of the top-level objects whose keys begin with `prefix`, those after `start_after` alone.

        The `token` of a page gives the next one. A page has up to `limit` entries.
        """
        with self._translated(bucket):
            page = _parse_page(self._client.get_listing_page(bucket, prefix, start_after, token, limit))
        if page.token is not None and page.token == token:
            raise Unavailable("s3", f"S3 at {self._endpoint} broke off its listing of bucket {bucket}")
        return page

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        """The object; ObjectMissing when there is none, ObjectTooLarge when it has more than `limit` bytes."""
        with self._translated(bucket, key):
            response = self._client.get_object(bucket_name=bucket, object_name=key)
            try:
                etag, size, modified = _describe(response)
                if size > limit:
                    raise ObjectTooLarge(key, size, etag)
                # as it is stored: what a Content-Encoding would make of it has no limit
                return Object(response.read(decode_content=False), etag, modified)
            finally:
                response.close()
                response.release_conn()

    @contextmanager
    def stream(self, bucket: str, key: str) -> Iterator[Stream]:
        """The object, of any size, a chunk at a time; ObjectMissing when there is none."""
        with self._translated(bucket, key):
            response = self._client.get_object(bucket_name=bucket, object_name=key)
        try:
            etag, size, _ = _describe(response)
            yield Stream(etag, size, self._chunks(response, bucket, key))
        finally:
            response.close()
            response.release_conn()

    def _chunks(self, response: urllib3.BaseHTTPResponse, bucket: str, key: str) -> Iterator[bytes]:
        with self._translated(bucket, key):
            yield from response.stream(CHUNK, decode_content=False)

    def put(self, bucket: str, key: str, chunks: Iterable[bytes], *, content_type: str) -> str:
        """Replace the object by what `chunks` yield, all or nothing; returns its ETag."""
        with self._translated(bucket, key):
            data = BufferedReader(_Chunks(chunks))
            written = self._client.put_object(
                bucket_name=bucket,
                object_name=key,
                data=data,
                length=-1,
                part_size=PART,
                num_parallel_uploads=1,
                content_type=content_type,
            )
        return str(written.etag).strip('"')

    def etag(self, bucket: str, key: str) -> str:
        """The object's ETag; empty when there is no such object."""
        try:
            with self._translated(bucket, key):
                return str(self._client.stat_object(bucket_name=bucket, object_name=key).etag).strip('"')
        except ObjectMissing:
            return ""

    def modified(self, bucket: str, key: str) -> datetime | None:
        """The object's Last-Modified; None when there is no such object."""
        try:
            with self._translated(bucket, key):
                modified = self._client.stat_object(bucket_name=bucket, object_name=key).last_modified
        except ObjectMissing:
            return None
        if modified is None:
            raise Unavailable("s3", f"S3 at {self._endpoint} answered without a Last-Modified")
        return modified

    def abort_uploads(self, bucket: str, key: str) -> int:
        """Abort the multipart uploads of the object that were not completed; returns how many there were."""
        with self._translated(bucket):
            return self._client.abort_uploads(bucket, key)

    @contextmanager
    def _translated(self, bucket: str, key: str = "") -> Iterator[None]:
        """Turn the libraries' exceptions into ours."""
        try:
            yield
        except (S3Error, ServerError, InvalidResponseError) as error:
            raise self._declined(error, bucket, key) from error
        except MinioException as error:
            raise StorageError(f"S3 at {self._endpoint}: {error}") from error
        except (urllib3.exceptions.HTTPError, OSError, UnicodeDecodeError) as error:
            raise Unavailable("s3", f"S3 at {self._endpoint} can't be reached: {_reason(error)}") from error

    def _declined(self, error: S3Error | ServerError | InvalidResponseError, bucket: str, key: str) -> StorageError:
        status, code = _status(error), getattr(error, "code", None)
        if code == "NoSuchKey":
            return ObjectMissing(key)
        where = f"{bucket}/{key}" if key else f"bucket {bucket}"
        message = f"S3 at {self._endpoint} answered {status} {code or ''} for {where}".replace("  ", " ")
        if status >= 500 or status in (408, 429):
            return Unavailable("s3", message)
        return Refused("s3", message)


class _Client(Minio):
    """Minio, and one page of a listing as S3 sent it: parsing is most of what list_objects costs."""

    def get_listing_page(self, bucket: str, prefix: str, start_after: str, token: str | None, limit: int) -> bytes:
        query = {"list-type": "2", "delimiter": "/", "encoding-type": "url", "prefix": prefix, "max-keys": str(limit)}
        if token is not None:
            query["continuation-token"] = token
        elif start_after:
            query["start-after"] = start_after
        return self._execute("GET", bucket, query_params=dict(query)).data

    def abort_uploads(self, bucket: str, key: str) -> int:
        """Those of exactly this key, up to a thousand."""
        found = [one for one in self._list_multipart_uploads(bucket, prefix=key).uploads if one.object_name == key]
        for upload in found:
            self._abort_multipart_upload(bucket, key, str(upload.upload_id))
        return len(found)


# Each is one element of ListBucketResult, S3's answer to ListObjectsV2: parsing it as XML costs five times as much.
_ELEMENTS = {
    name: re.compile(rb"<%s>([^<]*)</%s>" % (name.encode(), name.encode()))
    for name in ("Key", "Size", "LastModified", "EncodingType", "IsTruncated", "NextContinuationToken")
}
_QUOTE = rb"(?:\"|&#34;|&quot;)?"
_ELEMENTS["ETag"] = re.compile(rb"<ETag>%s([^<]*?)%s</ETag>" % (_QUOTE, _QUOTE))
_FOLDER = re.compile(rb"<CommonPrefixes>\s*<Prefix>([^<]*)</Prefix>")


def _parse_page(xml: bytes) -> ListingPage:
    if b"<ListBucketResult" not in xml or not xml.rstrip().endswith(b"</ListBucketResult>"):
        raise Unavailable("s3", "what answered as S3 sent no listing of a bucket")

    def texts(pattern: re.Pattern[bytes]) -> list[str]:
        found = b"\n".join(pattern.findall(xml)).decode()
        return (unescape(found) if "&" in found else found).split("\n") if found else []

    def text(name: str) -> str:
        return "".join(texts(_ELEMENTS[name]))

    keys, etags, sizes, times = (texts(_ELEMENTS[name]) for name in ("Key", "ETag", "Size", "LastModified"))
    folders = texts(_FOLDER)
    if text("EncodingType") == "url":  # a service is asked to escape keys, and says whether it did
        keys = [_unquote(key) if "%" in key or "+" in key else key for key in keys]
        folders = [_unquote(folder) for folder in folders]
    if not len(keys) == len(etags) == len(sizes) == len(times) == xml.count(b"<Contents>"):
        raise Unavailable("s3", "S3 sent a listing in which an object lacks its key, ETag, size or LastModified")
    try:
        objects = [ObjectInfo(*item) for item in zip(keys, etags, map(int, sizes), times, strict=True)]
    except ValueError as error:
        raise Unavailable("s3", f"S3 sent a listing with a size that is no number: {error}") from error
    token = text("NextContinuationToken") if text("IsTruncated") == "true" else None
    if token == "":
        raise Unavailable("s3", "S3 broke off a listing: its page is truncated and has no continuation token")
    return ListingPage(objects, folders, token)


def _unquote(key: str) -> str:
    return unquote_plus(key, errors="surrogateescape")  # no two keys may become one


def _describe(response: BaseHTTPResponse) -> tuple[str, int, datetime]:
    """An object's ETag, size in bytes and Last-Modified."""
    try:
        headers = response.headers
        modified = parsedate_to_datetime(headers["Last-Modified"])
        return headers["ETag"].strip('"'), int(headers["Content-Length"]), modified
    except (KeyError, ValueError) as error:
        raise Unavailable(
            "s3", f"S3 answered without a usable ETag, Content-Length or Last-Modified: {error}"
        ) from error


def _status(error: S3Error | ServerError | InvalidResponseError) -> int:
    if isinstance(error, S3Error):
        return int(error.response.status)
    return int(error.status_code if isinstance(error, ServerError) else error._code)


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words: urllib3 wraps it in the whole history of a request."""
    cause: Any = error
    while (inner := getattr(cause, "reason", None)) and isinstance(inner, BaseException):
        cause = inner
    return f"{type(cause).__name__}: {describe(cause).rsplit(': ', 1)[-1]}"


class _Chunks(RawIOBase):
    """An iterable of bytes as a raw stream."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                self._rest = memoryview(next(self._chunks))
            except StopIteration:
                return 0
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)
