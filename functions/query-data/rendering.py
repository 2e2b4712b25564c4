"""The forms that an answer takes."""

from collections.abc import Generator, Iterator

from flask import Response


def json_document(lines: Generator[bytes, None, None]) -> Response:
    """`{"result": [ … ], "next": null}`, streamed; `lines` are chunks of whole lines, an object each.

    What goes wrong before the first chunk is raised here, while the status can still say so; after that the
    response is cut off, which a client sees. `lines` is closed with the response.
    """
    first = next(lines, None)
    response = Response(_document(first, lines), content_type="application/json")
    response.call_on_close(lines.close)
    return response


def _document(first: bytes | None, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield b'{"result": ['
    if first is not None:
        yield _objects(first)
    for chunk in rest:
        yield b",\n" + _objects(chunk)
    yield b'], "next": null}\n'


def _objects(lines: bytes) -> bytes:
    return lines[:-1].replace(b"\n", b",\n")
