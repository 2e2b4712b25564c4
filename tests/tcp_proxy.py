"""A TCP proxy on loopback that injects network faults. (Toxiproxy's server is not on PyPI.)"""

import asyncio
import socket
import struct
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

CHUNK = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER for 0 seconds: closing sends RST
_CUT_WITHIN = 20_000  # a connection is cut or reset before the client has received this many more bytes

DELAY, THROTTLE, CUT, RESET, REFUSE, HANG, VANISH = "delay", "throttle", "cut", "reset", "refuse", "hang", "vanish"


@dataclass(frozen=True)
class Fault:
    """A network fault.

    delay      every chunk is delayed by `seconds`, in both directions
    throttle   each connection passes at most `rate` bytes per second in each direction
    cut        connections are closed after a random number of bytes to the client
    reset      the same, with RST
    refuse     new connections are refused, open ones are reset
    hang       connections are accepted, but no data passes until the fault ends
    vanish     clients seem to vanish: open connections pass no more data, and are closed after `close_after` seconds
    """

    name: str
    seconds: float = 0.0
    rate: int = 0
    close_after: float = 0.0


class Proxy:
    """Forwards connections to `host`:`port` and injects faults."""

    def __init__(self, host: str, port: int, random: Random) -> None:
        self._upstream, self._random = (host, port), random
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[Any]] = set()  # one for each accepted connection
        self._is_closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.fault: Fault | None = None
        self.port = 0
        self._call(self._open())

    @contextmanager
    def faulty(self, fault: Fault) -> Iterator[None]:
        """Inject the fault until the end of the block."""
        self._call(self._begin(fault))
        try:
            yield
        finally:
            self._call(self._end())

    def close(self) -> None:
        self._call(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> None:
        self._passing = asyncio.Event()
        self._passing.set()
        await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        """Close the server, but not while it accepts a connection: Python 3.11 would never close that connection."""
        while accepting := [task for task in asyncio.all_tasks() if "_accept_connection2" in repr(task.get_coro())]:
            await asyncio.wait(accepting)
        self._server.close()

    async def _begin(self, fault: Fault) -> None:
        self.fault = fault
        if fault.name == HANG:
            self._passing.clear()
        if fault.name == REFUSE:
            await self._stop_listening()
        for link in list(self._links):
            if fault.name == REFUSE:
                link.end(reset=True)
            elif fault.name == VANISH:
                link.abandon(fault.close_after)
            elif fault.name in (CUT, RESET):
                link.allowance = self._random.randrange(_CUT_WITHIN)

    async def _end(self) -> None:
        ended, self.fault = self.fault, None
        self._passing.set()
        for link in self._links:
            link.allowance = None
        if ended and ended.name == REFUSE:
            await self._listen()

    async def _shut_down(self) -> None:
        await self._stop_listening()
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            if not self._is_closing:
                await self._forward(reader, writer)
        except asyncio.CancelledError:
            assert self._is_closing
        finally:
            self._tasks.discard(task)
            if self._is_closing:
                _close(writer, reset=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            return _close(writer, reset=True)
        link = _Link(self, (reader, writer), (server_reader, server_writer))
        if self.fault and self.fault.name == REFUSE:  # accepted just before the fault
            return link.end(reset=True)
        if self.fault and self.fault.name in (CUT, RESET):
            link.allowance = self._random.randrange(_CUT_WITHIN)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
        return None

    async def wait_until_passing(self) -> None:
        """Wait until data may pass."""
        await self._passing.wait()


class _Link:
    """A client's connection and the one to the server. The client may get `allowance` more bytes (None: no limit)."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self.allowance: int | None = None
        self._abandoned = False

    async def run(self) -> None:
        requests = asyncio.create_task(self._pump(self._client[0], self._server[1], to_client=False))
        try:
            await self._pump(self._server[0], self._client[1], to_client=True)
        finally:
            self.end()
            requests.cancel()
            await asyncio.gather(requests, return_exceptions=True)

    def end(self, *, reset: bool = False) -> None:
        _close(self._client[1], reset=reset)
        _close(self._server[1], reset=reset)

    def abandon(self, close_after: float) -> None:
        """Stop forwarding. Close both sides after `close_after` seconds, unless the server ends its side first."""
        self._abandoned = True
        asyncio.get_running_loop().call_later(close_after, self.end)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, to_client: bool) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                await self._proxy.wait_until_passing()
                if not self._abandoned:
                    await self._slow_down(len(data))
                    if to_client and self.allowance is not None:
                        data, whole = data[: self.allowance], data
                        self.allowance -= len(data)
                        if len(data) < len(whole):
                            sink.write(data)
                            fault = self._proxy.fault
                            return self.end(reset=fault is not None and fault.name == RESET)
                    sink.write(data)
                    await sink.drain()
        if not to_client and not self._abandoned:  # an abandoned client's disconnect is hidden from the server
            self.end()
        return None

    async def _slow_down(self, size: int) -> None:
        match self._proxy.fault:
            case Fault(name="delay", seconds=seconds):
                await asyncio.sleep(seconds)
            case Fault(name="throttle", rate=rate):
                await asyncio.sleep(size / rate)


def _close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
    else:
        writer.close()
