"""A pipe for the output of COPY, from the thread that runs the statement to the thread that reads."""

from collections.abc import Iterator
from contextlib import suppress
from math import inf
from queue import Empty, Queue
from threading import TIMEOUT_MAX
from time import monotonic

CHUNK = 64 * 1024
"""Bytes that are collected before they are passed on as a chunk."""

_MAX_CHUNKS = 4  # chunks that may wait to be read


class _ReaderClosed(Exception):
    """The reader has closed the pipe."""


class Pipe:
    """One thread writes rows; another reads them in chunks of about `CHUNK` bytes.

    `drained` is true once the reader has reached the end.
    """

    def __init__(self) -> None:
        self._queue: Queue[bytes | BaseException | None] = Queue(_MAX_CHUNKS)
        self._rows: list[bytes] = []
        self._size = 0
        self._closed = False
        self.drained = False

    def write(self, row: bytes) -> None:
        self._rows.append(row)
        self._size += len(row)
        if self._size >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._closed:
            raise _ReaderClosed
        self._queue.put(b"".join(self._rows))
        self._rows, self._size = [], 0

    def end(self, error: BaseException | None) -> None:
        """Tell the reader that everything has been written, or that `error` ended the writing."""
        if error is None and self._rows:
            with suppress(_ReaderClosed):
                self._flush()
        self._queue.put(error)

    def chunks(self, seconds: float = inf) -> Iterator[bytes]:
        """Yield the chunks. Raises the error given to `end`, if any.

        Once `seconds` have passed since the first chunk was requested, the iterator no longer waits: if no chunk is
        ready, it yields the rows collected so far and then raises TimeoutError.
        """
        expires_at = monotonic() + seconds
        try:
            while isinstance(item := self._next(expires_at), bytes):
                yield item
        except Empty:
            collected = b"".join(tuple(self._rows))
            if collected and self._queue.empty():  # else a chunk was queued meanwhile, whose rows may precede these
                yield collected
            raise TimeoutError from None
        self.drained = True
        if item is not None:
            raise item

    def _next(self, expires_at: float) -> bytes | BaseException | None:
        return self._queue.get(timeout=min(TIMEOUT_MAX, max(0.0, expires_at - monotonic())))

    def close(self) -> None:
        """Stop reading. A writer that waits for a place in the queue wakes up; its next chunk raises an exception."""
        self._closed = True
        with suppress(Empty):
            while True:
                self._queue.get_nowait()
