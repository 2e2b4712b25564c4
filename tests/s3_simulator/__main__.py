"""The simulator's process: `python3 -m tests.s3_simulator --people=N`, started by tests/s3_simulator/client.py."""

import argparse
import asyncio
import re
import sys
from contextlib import suppress

from tests.s3_simulator.messages import MAX_KEPT_BODY, NOT_IMPLEMENTED, Body, Response
from tests.s3_simulator.service import Service
from tests.s3_simulator.source import SourceBucket

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_UNSUPPORTED_BODY = re.compile(rb"\r\n(?:transfer-encoding:|x-amz-content-sha256:[ \t]*STREAMING-)", re.IGNORECASE)


class _Connection(asyncio.Protocol):
    """A connection: HTTP/1.1 with keep-alive. Responses are sent in the order of the requests."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._method = self._target = ""
        self._body: Body | None = None  # of a request that is still being received
        self._is_delayed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        self._advance()

    def _advance(self) -> None:
        """Handle the requests received so far. Requests behind a delayed response wait for it."""
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
            self._send(NOT_IMPLEMENTED)
            self._transport.close()
        else:
            length = _CONTENT_LENGTH.search(head)
            size = int(length[1]) if length else 0
            self._body = Body(size, keep=size <= MAX_KEPT_BODY and "partNumber=" not in self._target)
            self._respond_if_complete()

    def _respond_if_complete(self) -> None:
        if self._body is not None and not self._body.missing:
            body, self._body = self._body, None
            self._respond(body)

    def _respond(self, body: Body | None) -> None:
        response = self._service.respond(self._method, self._target, body)
        if response.delay:
            self._is_delayed = True
            self._loop.call_later(response.delay, self._send_delayed, response)
        else:
            self._send(response)

    def _send_delayed(self, response: Response) -> None:
        self._is_delayed = False
        if not self._transport.is_closing():
            self._send(response)
            self._advance()

    def _send(self, response: Response) -> None:
        head = f"{response.head}{self._service.common_headers}\r\n".encode()
        self._transport.write(head if self._method == "HEAD" else head + response.body)


async def _serve(service: Service) -> None:
    """Print the endpoint, and serve until standard input is closed, at the latest when the parent process exits."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    loop.add_reader(sys.stdin, closed.set)
    server = await loop.create_server(lambda: _Connection(service), "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()
    print(f"{host}:{port}", flush=True)
    while not closed.is_set():
        service.refresh_date()
        with suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate an S3 service until standard input is closed.")
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
