"""A pipe for COPY, from the thread that runs the statement to the thread that reads its output."""

from collections.abc import Iterator
from contextlib import suppress
from math import inf
from queue import Empty, Queue
from threading import TIMEOUT_MAX
from time import monotonic

CHUNK = 64 * 1024
"""Bytes that are collected before they are passed on."""

_MAX_AGE = 1  # seconds after which collected rows are passed on with the next one
_MAX_CHUNKS = 4  # that wait to be read


class _ReaderClosed(Exception):
    """Nobody reads any more."""


class Pipe:
    """Rows written one at a time in one thread are read in chunks in another.

    A chunk has about `CHUNK` bytes, or less if rows come slowly. The first row is a chunk, so that a reader whose time
    is up has a row to continue from if any was written.
    """

    def __init__(self) -> None:
        self._queue: Queue[bytes | BaseException | None] = Queue(_MAX_CHUNKS)
        self._rows: list[bytes] = []
        self._size = 0
        self._flushed_at = -inf
        self._closed = False
        self.drained = False

    def write(self, row: bytes) -> None:
        self._rows.append(row)
        self._size += len(row)
        if self._size >= CHUNK or monotonic() - self._flushed_at > _MAX_AGE:
            self._flush()

    def _flush(self) -> None:
        if self._closed:
            raise _ReaderClosed
        self._queue.put(b"".join(self._rows))
        self._rows, self._size, self._flushed_at = [], 0, monotonic()

    def end(self, error: BaseException | None) -> None:
        """Tell the reader that all has been written, or that `error` ended it."""
        if error is None and self._rows:
            with suppress(_ReaderClosed):
                self._flush()
        self._queue.put(error)

    def chunks(self, seconds: float = inf) -> Iterator[bytes]:
        """Yield the chunks. Raises the error that ended them, or TimeoutError if none is ready after `seconds`."""
        expires_at = monotonic() + seconds
        while isinstance(item := self._next(expires_at), bytes):
            yield item
        self.drained = True
        if item is not None:
            raise item

    def _next(self, expires_at: float) -> bytes | BaseException | None:
        try:
            return self._queue.get(timeout=min(TIMEOUT_MAX, max(0.0, expires_at - monotonic())))
        except Empty:
            raise TimeoutError from None

    def close(self) -> None:
        """Stop reading. The writer, which may be waiting for a place in the queue, gets an exception."""
        self._closed = True
        with suppress(Empty):
            while True:
                self._queue.get_nowait()
