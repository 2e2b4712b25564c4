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

from tests.faults.subject import MAX_CALL_SECONDS, Slot

_TIMEOUT = 90  # seconds, well above MAX_CALL_SECONDS, so that the duration of slower calls is measured
EXPECTED_ERRORS = {
    "s3_unavailable",
    "s3_access_denied",
    "postgresql_unavailable",
    "gateway_unavailable",
    "busy",
    "no_photo",
}
"""Error codes that a call may get during faults. `no_photo` is normal: not every user has a photo."""
NO_RESPONSE = "no response"
_SCHEDULING_STEPS = 4  # steps of a call, each delayed by the lag: 2 in this process, 1 in the function, 1 in a server


@dataclass(frozen=True)
class Call:
    """A completed call.

    `outcome` depends on the function:

    process-data   the status of the run, `done` or `partial`
    query-data     `complete`, `cut` (truncated), `wrong`, or `continued` if the response ends with a link to the rest:
                   a page that is not the last, or a stream that reached its deadline
    both           `no response`, an error code, or the HTTP status of an error without a code

    Times are on the monotonic clock; `seconds` excludes the time for which SIGSTOP stopped the replica.
    """

    function: str
    started_at: float
    ended_at: float
    seconds: float
    outcome: str


@dataclass(frozen=True)
class Reply:
    """A received response. `send` hides whether a stream is truncated, as OpenFaaS does: readers must detect it.

    `has_full_length` says whether the body is as long as its Content-Length; without that header it is False.
    """

    status: int
    body: bytes
    sent_at: float
    has_full_length: bool = False

    def json(self) -> Any:
        return json.loads(self.body)


class Lag:
    """Measures how late threads wake up, to allow for the delays of a busy machine."""

    _INTERVAL = 0.1  # seconds

    def __init__(self) -> None:
        self._delays: list[tuple[float, float]] = []  # when a thread woke up, and its delay in seconds
        self._stopped = Event()
        Thread(target=self._measure, name="lag", daemon=True).start()

    def close(self) -> None:
        self._stopped.set()

    def _measure(self) -> None:
        while not self._stopped.is_set():
            asleep_at = monotonic()
            sleep(self._INTERVAL)
            awake_at = monotonic()
            self._delays.append((awake_at, awake_at - asleep_at - self._INTERVAL))

    def within(self, started_at: float, ended_at: float) -> float:
        """Return the sum of the delays in a period, in seconds."""
        delays = self._delays[bisect_left(self._delays, (started_at, 0.0)) :]
        return sum(seconds for awake_at, seconds in delays if awake_at < ended_at + self._INTERVAL)


class Calls:
    """Makes calls. Records their outcomes, and the problems of the trial."""

    def __init__(self) -> None:
        self._lock, self._lag = Lock(), Lag()
        self.ended: list[Call] = []
        self.problems: list[str] = []

    def close(self) -> None:
        self._lag.close()

    def add_problem(self, problem: str) -> None:
        with self._lock:
            self.problems.append(problem)

    def send(self, slot: Slot, method: str, path: str, body: bytes = b"") -> tuple[Reply | None, float]:
        """Send a request. Return the reply, if any, and the start time. The caller must then call `report`."""
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
            return Reply(response.status, received, started_at, response.length == 0), started_at
        except (OSError, http.client.HTTPException):
            return None, started_at
        finally:
            connection.close()

    def report(self, slot: Slot, path: str, started_at: float, outcome: str) -> None:
        """Record the outcome of a call. Add a problem if it took too long, or unexpectedly got no response."""
        ended_at = monotonic()
        seconds = ended_at - started_at - slot.stopped_for(started_at, ended_at)
        lag = self._lag.within(started_at, ended_at)
        with self._lock:
            self.ended.append(Call(slot.function, started_at, ended_at, seconds, outcome))
        if seconds > MAX_CALL_SECONDS + _SCHEDULING_STEPS * lag:
            self.add_problem(
                f"{slot.function}{path} took {seconds:.1f} s, over {MAX_CALL_SECONDS} s; "
                f"threads were delayed by {lag:.1f} s"
            )
        if outcome == NO_RESPONSE and not slot.may_drop_connections(started_at, ended_at):
            self.add_problem(
                f"{slot.function}{path} sent no response, but its replica was not killed and its clock did not jump"
            )

    def error_outcome(self, slot: Slot, reply: Reply | None) -> str:
        """Return the outcome of a call without a complete 200 response. Add a problem if the error is unexpected."""
        if reply is None:
            return NO_RESPONSE
        try:
            code = str(reply.json()["error"]["code"])
        except (ValueError, KeyError, TypeError):
            # a kill may come between the headers and the end of the body
            if slot.may_drop_connections(reply.sent_at, monotonic()):
                return NO_RESPONSE
            self.add_problem(f"{slot.function} returned {reply.status} without a JSON error: {reply.body[:300]!r}")
            return str(reply.status)
        if code not in EXPECTED_ERRORS:
            log = [line for line in slot.replica.errors() if f'"{code}"' in line][-1:]
            self.add_problem(f"{slot.function} returned {reply.status} {code}: {reply.body[:500]!r}, log: {log}")
        return code

    def run(self, slot: Slot, path: str = "/", body: bytes = b"") -> dict[str, Any] | None:
        """Send a POST to process-data. Return the summary, or None if there is none."""
        reply, started_at = self.send(slot, "POST", path, body)
        summary: dict[str, Any] | None = None
        if reply is not None and reply.status == 200:
            with suppress(ValueError):  # `error_outcome` handles it
                summary = reply.json()
        self.report(slot, path, started_at, str(summary["status"]) if summary else self.error_outcome(slot, reply))
        if summary is None:
            sleep(0.1)  # some callers retry at once
        return summary

    def outcomes(self, function: str) -> Counter[str]:
        with self._lock:
            return Counter(call.outcome for call in self.ended if call.function == function)
