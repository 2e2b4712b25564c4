"""Request bodies, and responses in S3's format."""

import hashlib
from typing import NamedTuple
from xml.sax.saxutils import escape

MAX_KEPT_BODY = 8 * 1024 * 1024  # bytes; a GET of an object in `res` fails if it is larger or was uploaded in parts
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
_REASONS = {200: "OK", 204: "No Content", 400: "Bad Request", 404: "Not Found", 500: "Error", 501: "Not Implemented"}


class Body:
    """A request body that is being received. Its MD5 is computed; its bytes are kept only if `keep` is set."""

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


class Response(NamedTuple):
    """A response. `head` lacks the headers that all responses share. `delay` is in seconds."""

    head: str
    body: bytes = b""
    delay: float = 0


def xml_response(status: int, xml: str, *, delay: float = 0) -> Response:
    body = (_XML + xml).encode(errors="replace")
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return Response(head, body, delay)


def error_response(status: int, code: str, *, message: str = "", delay: float = 0) -> Response:
    return xml_response(
        status, f"<Error><Code>{code}</Code><Message>{escape(message or code)}</Message></Error>", delay=delay
    )


NOT_IMPLEMENTED = error_response(501, "NotImplemented", message="the simulator does not implement this request")
