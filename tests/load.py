"""Load generators: a closed loop (a fixed number of clients) and an open loop (a fixed rate)."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")

Request = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class TimedResponse:
    """A complete response and its duration; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


class IncompleteResponse(Exception):
    """The connection ended before the response did."""


def run_in_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a separate thread, because the browser tests leave a running event loop in the main thread."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, work).result()


async def get(port: int, path: str, timeout: float, **headers: str) -> TimedResponse:
    """Send a GET over a new connection. Underscores in header names stand for hyphens.

    Raise TimeoutError after `timeout` seconds, and IncompleteResponse if the response is truncated.
    """
    started_at = monotonic()
    fields = {"Host": f"127.0.0.1:{port}", "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write("\r\n".join(lines).encode())
            raw = await reader.read()
        finally:
            writer.close()
    return _parse(raw, monotonic() - started_at)


async def closed_loop(clients: int, seconds: float, request: Request) -> float:
    """Let each client send one request after another. Return the total number of responses per second."""
    started_at, responses = monotonic(), 0

    async def client() -> None:
        nonlocal responses
        while monotonic() < started_at + seconds:
            await request()
            responses += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return responses / (monotonic() - started_at)


async def open_loop(rate: float, seconds: float, request: Request) -> None:
    """Send `rate` requests per second whether or not earlier ones have completed, and wait for the last response."""
    started_at = monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(started_at + number / rate - monotonic())
            group.create_task(request())  # type: ignore[arg-type]


def _parse(raw: bytes, seconds: float) -> TimedResponse:
    head, separator, body = raw.partition(b"\r\n\r\n")
    if not separator:
        raise IncompleteResponse(f"{len(raw)} bytes, in the headers")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunk(body)
    elif len(body) != int(headers.get("content-length", len(body))):
        raise IncompleteResponse(f"{len(body)} of {headers['content-length']} bytes")
    return TimedResponse(int(status.split()[1]), headers, body, seconds)


def _unchunk(body: bytes) -> bytes:
    chunks: list[bytes] = []
    position = 0
    while True:
        size, separator, _ = body[position : position + 20].partition(b"\r\n")
        if not separator:
            raise IncompleteResponse(f"{len(body)} bytes, in a chunk")
        start, length = position + len(size) + 2, int(size, 16)
        if length == 0:
            return b"".join(chunks)
        chunks.append(body[start : start + length])
        position = start + length + 2
