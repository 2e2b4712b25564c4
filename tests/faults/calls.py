"""Calls to the replicas, and their outcomes."""

import http.client
import json
from bisect import bisect_left
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from tests.faults.subject import LIMIT, Slot

_TIMEOUT = 90  # seconds: longer than any call may take, so that its duration can be measured
EXPECTED = {"s3_unavailable", "s3_access_denied", "postgresql_unavailable", "gateway_unavailable", "busy", "no_photo"}
"""Error codes that a call may get during faults. `no_photo` is normal: not every user has a photo."""
NO_RESPONSE = "no response"
_SCHEDULING_STEPS = 4  # of a call: this process twice, the function, a server


@dataclass(frozen=True)
class Call:
    """A completed call.

    `outcome` is `done`, `partial`, `complete`, `continued`, `cut`, `wrong`, `no response`, an error code, or the status
    of an error without a code.
    Times are of the monotonic clock; `seconds` excludes the time during which the replica was stopped.
    """

    function: str
    started_at: float
    ended_at: float
    seconds: float
    outcome: str


@dataclass(frozen=True)
class Reply:
    """A received response. Its body may be truncated, which the transport does not report behind OpenFaaS."""

    status: int
    body: bytes
    started_at: float

    def json(self) -> Any:
        return json.loads(self.body)


class Lag:
    """Measures how late threads wake up, because delays of a busy machine are not the function's fault."""

    _BEAT = 0.1  # seconds

    def __init__(self) -> None:
        self._delays: list[tuple[float, float]] = []  # when a thread woke up, and its delay in seconds
        self._stopped = Event()
        Thread(target=self._beat, name="lag", daemon=True).start()

    def close(self) -> None:
        self._stopped.set()

    def _beat(self) -> None:
        while not self._stopped.is_set():
            asleep_at = monotonic()
            sleep(self._BEAT)
            awake_at = monotonic()
            self._delays.append((awake_at, awake_at - asleep_at - self._BEAT))

    def within(self, started_at: float, ended_at: float) -> float:
        """Return the total delay of threads in that period, in seconds."""
        delays = self._delays[bisect_left(self._delays, (started_at, 0.0)) :]
        return sum(seconds for awake_at, seconds in delays if awake_at < ended_at + self._BEAT)


class Calls:
    """Makes calls, counts them, and records problems."""

    def __init__(self) -> None:
        self._lock, self._lag = Lock(), Lag()
        self.ended: list[Call] = []
        self.problems: list[str] = []

    def close(self) -> None:
        self._lag.close()

    def note(self, problem: str) -> None:
        with self._lock:
            self.problems.append(problem)

    def send(self, slot: Slot, method: str, path: str, body: bytes = b"") -> tuple[Reply | None, float]:
        """Send a request. Return the reply, or None, and the start time. The caller must then call `report`."""
        started_at = monotonic()
        location = urlsplit(slot.replica.url)
        connection = http.client.HTTPConnection(location.hostname or "", location.port, timeout=_TIMEOUT)
        try:
            connection.request(method, path, body, {"Connection": "close"})
            response = connection.getresponse()
            try:
                received = response.read()
            except http.client.IncompleteRead as error:
                received = error.partial
            except OSError:
                received = b""
            return Reply(response.status, received, started_at), started_at
        except (OSError, http.client.HTTPException):
            return None, started_at
        finally:
            connection.close()

    def report(self, slot: Slot, path: str, started_at: float, outcome: str) -> None:
        """Record the outcome of a call. A call that took too long or ended in a forbidden way is a problem."""
        ended_at = monotonic()
        seconds = ended_at - started_at - slot.stopped_for(started_at, ended_at)
        lag = self._lag.within(started_at, ended_at)
        with self._lock:
            self.ended.append(Call(slot.function, started_at, ended_at, seconds, outcome))
        if seconds > LIMIT + _SCHEDULING_STEPS * lag:
            self.note(
                f"{slot.function}{path} took {seconds:.1f} s, over {LIMIT} s; threads were delayed by {lag:.1f} s"
            )
        if outcome == NO_RESPONSE and not slot.may_hang_up_within(started_at, ended_at):
            self.note(f"{slot.function}{path} gave no response, without a kill of the replica or a jump of its clock")

    def error(self, slot: Slot, reply: Reply | None) -> str:
        """Return the outcome of a call without a complete 200. An unexpected error is a problem."""
        if reply is None:
            return NO_RESPONSE
        try:
            code = str(reply.json()["error"]["code"])
        except (ValueError, KeyError, TypeError):
            if slot.may_hang_up_within(reply.started_at, monotonic()):  # between the headers and the end of the body
                return NO_RESPONSE
            self.note(f"{slot.function} returned {reply.status} without its JSON: {reply.body[:300]!r}")
            return str(reply.status)
        if code not in EXPECTED:
            log = [line for line in slot.replica.errors() if f'"{code}"' in line][-1:]
            self.note(f"{slot.function} returned {reply.status} {code}: {reply.body[:500]!r}, log: {log}")
        return code

    def run(self, slot: Slot, path: str = "/", body: bytes = b"") -> dict[str, Any] | None:
        """Send a POST to process-data. Return the summary, or None."""
        reply, started_at = self.send(slot, "POST", path, body)
        summary: dict[str, Any] | None = None
        if reply is not None and reply.status == 200:
            with suppress(ValueError):  # `error` reports it
                summary = reply.json()
        self.report(slot, path, started_at, str(summary["status"]) if summary else self.error(slot, reply))
        if summary is None:
            sleep(0.1)
        return summary

    def outcomes(self, function: str) -> Counter[str]:
        with self._lock:
            return Counter(call.outcome for call in self.ended if call.function == function)
