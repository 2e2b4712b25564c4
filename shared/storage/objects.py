"""A client for S3 and compatible services: list, get and put objects."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BufferedReader, RawIOBase
from typing import Any
from xml.etree.ElementTree import ParseError

import certifi
import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from .errors import AccessDenied, ObjectMissing, ObjectTooLarge, SettingError, StorageError, Unavailable
from .listing import MAX_KEYS, ListingPage, parse_listing
from .settings import S3Settings
from .tls import describe, make_context

CHUNK = 64 * 1024
"""Bytes of an object that are read at a time."""
PART_SIZE = 5 * 1024 * 1024  # S3's minimum; at most 10,000 parts make an object of up to 48 GiB

_CONNECT_TIMEOUT = 3  # seconds

# Two retries, or one if a request was sent and got no response. A request that was sent is repeated only if its method
# is idempotent.
_RETRIES = urllib3.Retry(
    total=2,
    read=1,
    backoff_factor=0.1,
    status_forcelist=(500, 502, 503, 504),
    raise_on_status=False,
    respect_retry_after_header=False,  # it may be hours
)


@dataclass(frozen=True, slots=True)
class Object:
    """An object's body with its ETag and Last-Modified."""

    body: bytes
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class Stream:
    """An object that is being read: its ETag, its size in bytes, and its body as chunks to iterate over once."""

    etag: str
    size: int
    chunks: Iterator[bytes]


class Objects:
    """A client of one S3 service. It keeps up to `connections` connections for reuse. Threads may share it."""

    def __init__(self, settings: S3Settings, *, connections: int = 4) -> None:
        tls = make_context("s3_ca_file", settings.s3_ca_file, certifi.where()) if settings.s3_secure else None
        pool = urllib3.PoolManager(
            maxsize=connections,
            timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT, read=settings.s3_timeout),
            retries=_RETRIES,
            ssl_context=tls,
        )
        try:
            self._client = _Client(
                endpoint=settings.s3_endpoint,
                access_key=settings.s3_access_key.reveal(),
                secret_key=settings.s3_secret_key.reveal(),
                secure=settings.s3_secure,
                region=settings.s3_region,
                http_client=pool,
            )
        except ValueError as error:
            raise SettingError(
                f"invalid s3_endpoint={settings.s3_endpoint!r} or s3_region={settings.s3_region!r}: {error}"
            ) from error
        self._endpoint = settings.s3_endpoint

    def list_page(
        self, bucket: str, *, prefix: str = "", start_after: str = "", token: str | None = None, limit: int = MAX_KEYS
    ) -> ListingPage:
        """List up to `limit` top-level objects and folders whose keys begin with `prefix` and sort after `start_after`.

        `token` is that of the previous page; `start_after` is then ignored.
        """
        with self._translate_errors(bucket):
            page = parse_listing(self._client.get_listing(bucket, prefix, start_after, token, limit))
        if page.token is not None and page.token == token:
            raise Unavailable(
                "s3", f"S3 at {self._endpoint} repeated a continuation token while listing bucket {bucket}"
            )
        return page

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        """Return the object. Raises ObjectMissing, or ObjectTooLarge if it has more than `limit` bytes."""
        with self._translate_errors(bucket, key):
            response = self._client.get_object(bucket_name=bucket, object_name=key)
            try:
                etag, size, modified = _metadata(response.headers)
                if size > limit:
                    raise ObjectTooLarge(key, size, etag)
                # not decoded: the decoded body could exceed the limit
                return Object(response.read(decode_content=False), etag, modified)
            finally:
                response.close()
                response.release_conn()

    @contextmanager
    def stream(self, bucket: str, key: str) -> Iterator[Stream]:
        """Read an object of any size in chunks. Raises ObjectMissing."""
        with self._translate_errors(bucket, key):
            response = self._client.get_object(bucket_name=bucket, object_name=key)
        try:
            etag, size, _ = _metadata(response.headers)
            yield Stream(etag, size, self._chunks(response, bucket, key))
        finally:
            response.close()
            response.release_conn()

    def _chunks(self, response: urllib3.BaseHTTPResponse, bucket: str, key: str) -> Iterator[bytes]:
        with self._translate_errors(bucket, key):
            yield from response.stream(CHUNK, decode_content=False)

    def put(self, bucket: str, key: str, chunks: Iterable[bytes], *, content_type: str) -> str:
        """Replace the object atomically with the content of `chunks`; returns its ETag."""
        with self._translate_errors(bucket, key):
            data = BufferedReader(_ChunkReader(chunks))
            result = self._client.put_object(
                bucket_name=bucket,
                object_name=key,
                data=data,
                length=-1,
                part_size=PART_SIZE,
                num_parallel_uploads=1,
                content_type=content_type,
            )
        if not result.etag:  # S3 may report with status 200 that it could not complete an upload
            raise Unavailable("s3", f"S3 at {self._endpoint} did not complete the upload of {bucket}/{key}")
        return result.etag.strip('"')

    def stat(self, bucket: str, key: str) -> tuple[str, int]:
        """The object's ETag and size in bytes. Raises ObjectMissing."""
        with self._translate_errors(bucket, key):
            stat = self._client.stat_object(bucket_name=bucket, object_name=key)
        etag, size, _ = _metadata(stat.metadata or {})
        return etag, size

    def etag(self, bucket: str, key: str) -> str:
        """The object's ETag; empty if the object does not exist."""
        try:
            return self.stat(bucket, key)[0]
        except ObjectMissing:
            return ""

    def abort_uploads(self, bucket: str, key: str) -> int:
        """Abort up to 1,000 incomplete multipart uploads of the object; returns their number."""
        with self._translate_errors(bucket):
            return self._client.abort_uploads(bucket, key)

    @contextmanager
    def _translate_errors(self, bucket: str, key: str = "") -> Iterator[None]:
        """Translate minio's and urllib3's exceptions into those of `errors`."""
        try:
            yield
        except (S3Error, ServerError, InvalidResponseError) as error:
            raise self._error_from_response(error, bucket, key) from error
        except MinioException as error:
            raise StorageError(f"S3 at {self._endpoint}: {error}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unavailable("s3", f"S3 at {self._endpoint} cannot be reached: {_reason(error)}") from error
        except (ParseError, ValueError) as error:  # from malformed XML, a missing element, an invalid time or number
            raise Unavailable("s3", f"S3 at {self._endpoint} sent a malformed response: {error}") from error

    def _error_from_response(
        self, error: S3Error | ServerError | InvalidResponseError, bucket: str, key: str
    ) -> StorageError:
        status, code = _status(error), getattr(error, "code", None)
        if code == "NoSuchKey":
            return ObjectMissing(key)
        where = f"{bucket}/{key}" if key else f"bucket {bucket}"
        message = f"S3 at {self._endpoint} returned {f'{status} {code}' if code else status} for {where}"
        # After an error minio aborts the upload. If S3 has completed it nevertheless, the abort fails with
        # NoSuchUpload, which hides the first error.
        if status >= 500 or status in (408, 429) or code == "NoSuchUpload":
            return Unavailable("s3", message)
        return AccessDenied("s3", message)


class _Client(Minio):
    """The Minio client. Only this class uses its private methods."""

    def get_listing(self, bucket: str, prefix: str, start_after: str, token: str | None, limit: int) -> bytes:
        """The response to ListObjectsV2, unparsed: minio's list_objects spends most of its time on parsing."""
        query = {"list-type": "2", "delimiter": "/", "encoding-type": "url", "prefix": prefix, "max-keys": str(limit)}
        if token is not None:
            query["continuation-token"] = token
        elif start_after:
            query["start-after"] = start_after
        return self._execute("GET", bucket, query_params=dict(query)).data

    def abort_uploads(self, bucket: str, key: str) -> int:
        """Abort the uploads of exactly this key, up to the 1,000 that S3 lists at a time."""
        candidates = self._list_multipart_uploads(bucket, prefix=key).uploads
        uploads = [upload for upload in candidates if upload.object_name == key]
        for upload in uploads:
            self._abort_multipart_upload(bucket, key, str(upload.upload_id))
        return len(uploads)


def _metadata(headers: Mapping[str, str]) -> tuple[str, int, datetime]:
    """An object's ETag, size in bytes and Last-Modified.

    http.client accepts a response that ends within its headers, so any header may be missing.
    """
    try:
        modified = parsedate_to_datetime(headers["Last-Modified"])
        modified = modified.replace(tzinfo=modified.tzinfo or UTC)  # HTTP's dates are always UTC
        return headers["ETag"].strip('"'), int(headers["Content-Length"]), modified
    except (KeyError, ValueError) as error:
        raise Unavailable(
            "s3", f"S3 sent a response without a valid ETag, Content-Length or Last-Modified: {error}"
        ) from error


def _status(error: S3Error | ServerError | InvalidResponseError) -> int:
    if isinstance(error, S3Error):
        return int(error.response.status)
    return int(error.status_code if isinstance(error, ServerError) else error._code)  # noqa: SLF001 - it has no public name


def _reason(error: BaseException) -> str:
    """The type and the text of the innermost cause. urllib3's own message nests the texts of all causes."""
    cause: Any = error
    while (inner := getattr(cause, "reason", None)) and isinstance(inner, BaseException):
        cause = inner
    return f"{type(cause).__name__}: {describe(cause).rsplit(': ', 1)[-1]}"


class _ChunkReader(RawIOBase):
    """A raw stream that reads from an iterable of bytes."""

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
        part = self._rest[: len(buffer)]
        buffer[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)
