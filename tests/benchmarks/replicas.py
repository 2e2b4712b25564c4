"""Replicas of process-data in separate processes, and a stub of the gateway with a queue."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import Queue
from threading import Thread
from typing import Any

import urllib3

from tests.gateway import serving_gateway
from tests.replica import Replica, replica, wait_until_ready
from tests.stack import Stack

_PATH = "/async-function/process-data"
_TIMEOUT = 3600  # seconds for one request


@dataclass(frozen=True)
class CompletedRequest:
    """`replica` is the replica's index, `completed_at` a time of `time.monotonic`."""

    replica: int
    completed_at: float
    summary: dict[str, Any]


class ReplicaQueue:
    """Replicas, and the queue from which each takes one request at a time."""

    def __init__(self, replicas: list[Replica]) -> None:
        self.replicas = replicas
        self._waiting: Queue[str] = Queue()
        self._completed: Queue[CompletedRequest | Exception] = Queue()

    def put(self, query: str) -> None:
        self._waiting.put(query)

    def enqueue(self, path: str, _authorization: str | None) -> int:
        """Queue a request that process-data sends, as the gateway does. Return the status."""
        name, separator, query = path.partition("?")
        if name != _PATH:
            return 404
        self.put(separator + query)
        return 202

    def next(self) -> CompletedRequest:
        """Wait for the next completed request. Raise its error if it failed."""
        result = self._completed.get(timeout=_TIMEOUT)
        if isinstance(result, Exception):
            raise result
        return result

    def run(self) -> list[CompletedRequest]:
        """Queue a run and wait until it or its last continuation is done."""
        self.put("")
        requests = [self.next()]
        while requests[-1].summary["status"] != "done":
            assert requests[-1].summary["continued"], requests[-1].summary
            requests.append(self.next())
        return requests

    def fan_out(self) -> list[CompletedRequest]:
        """Let process-data queue a run for each replica, and wait for all of them."""
        count = len(self.replicas)
        status, _ = _post(self.replicas[0], f"?fan_out={count}")
        assert status == 202
        return [self.next() for _ in range(count)]

    def work(self, index: int) -> None:
        """Send queued requests to one replica."""
        while True:
            query = self._waiting.get()
            try:
                status, summary = _post(self.replicas[index], query)
                assert status == 200, summary
                self._completed.put(CompletedRequest(index, time.monotonic(), summary))
            except Exception as error:  # noqa: BLE001 - raised again in `next`
                self._completed.put(error)


def _post(running: Replica, query: str) -> tuple[int, Any]:
    response = urllib3.request("POST", f"{running.url}/{query}", timeout=_TIMEOUT, retries=False)
    return response.status, json.loads(response.data)


@contextmanager
def queued_replicas(stack: Stack, settings: Mapping[str, str], count: int, **overrides: str) -> Iterator[ReplicaQueue]:
    """Start replicas behind a queue; `overrides` replace some of the settings."""
    replicas: list[Replica] = []
    queue = ReplicaQueue(replicas)
    with serving_gateway(queue.enqueue) as url, ExitStack() as exits:
        for _ in range(count):
            values = {**settings, "gateway_url": url, **overrides}
            replicas.append(exits.enter_context(replica(stack.state / "build/process-data", values)))
        for index, running in enumerate(replicas):
            wait_until_ready(running, "/_/health")
            status, summary = _post(running, "?user_id=0")  # connects to both backends
            assert status == 200, summary
            Thread(target=queue.work, args=(index,), daemon=True).start()
        yield queue
