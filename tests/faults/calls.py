"""Calls to the replicas, and the record of how they ended."""

import http.client
import json
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from tests.faults.subject import LIMIT, Slot

_PATIENCE = 90  # seconds: longer than anything may take, so that it is seen how long it took
DOCUMENTED = {"s3_unavailable", "s3_access_denied", "postgresql_unavailable", "gateway_unavailable", "busy", "no_photo"}
"""Codes of errors that a fault may cause."""
NO_RESPONSE = "no response"
_PROCESSES = 4  # that a call goes through: this one twice, the function, a server. Each waits for its turn


@dataclass(frozen=True)
class Call:
    """A call that ended: with `done`, `partial`, `complete`, `cut`, the code of an error, or `no response`.

    Times are of the monotonic clock; `seconds` is what it took, but for the time for which its replica was stopped.
    """

    function: str
    began: float
    ended: float
    seconds: float
    outcome: str


@dataclass(frozen=True)
class Reply:
    """What came of a response: its body may be cut, which the transport does not tell behind OpenFaaS."""

    status: int
    body: bytes
    began: float

    def json(self) -> Any:
        return json.loads(self.body)


class Lag:
    """How late this machine lets threads run: what a busy machine adds to a call is not the function's."""

    _BEAT = 0.1  # seconds

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []  # when a thread woke up, and how many seconds late
        self._ended = Event()
        Thread(target=self._beat, name="lag", daemon=True).start()

    def close(self) -> None:
        self._ended.set()

    def _beat(self) -> None:
        while not self._ended.is_set():
            asleep_at = monotonic()
            sleep(self._BEAT)
            awake_at = monotonic()
            self._late.append((awake_at, awake_at - asleep_at - self._BEAT))

    def within(self, began: float, ended: float) -> float:
        """Seconds by which threads were late in that time."""
        late = self._late[bisect_left(self._late, (began, 0.0)) :]
        return sum(seconds for awake_at, seconds in late if awake_at < ended + self._BEAT)


class Calls:
    """Makes calls, counts them, and notes what must not be."""

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
        """Send a request; None when no response began. `report` has to be called with what came of it."""
        began = monotonic()
        location = urlsplit(slot.replica.url)
        connection = http.client.HTTPConnection(location.hostname or "", location.port, timeout=_PATIENCE)
        try:
            connection.request(method, path, body, {"Connection": "close"})
            response = connection.getresponse()
            try:
                received = response.read()
            except http.client.IncompleteRead as error:
                received = error.partial
            except OSError:
                received = b""
            return Reply(response.status, received, began), began
        except (OSError, http.client.HTTPException):
            return None, began
        finally:
            connection.close()

    def report(self, slot: Slot, path: str, began: float, outcome: str) -> None:
        """Note how a call ended, and whether it took too long or ended as no call may."""
        ended = monotonic()
        seconds = ended - began - slot.stopped_for(began, ended)
        lag = self._lag.within(began, ended)
        with self._lock:
            self.ended.append(Call(slot.function, began, ended, seconds, outcome))
        if seconds > LIMIT + _PROCESSES * lag:
            self.note(f"{slot.function}{path} took {seconds:.1f} s, over {LIMIT} s; threads were {lag:.1f} s late")
        if outcome == NO_RESPONSE and not slot.may_hang_up_within(began, ended):
            self.note(f"{slot.function}{path} gave no response although nothing had happened to it")

    def error(self, slot: Slot, reply: Reply | None) -> str:
        """The outcome of a call that is not 200. An error that is not documented is a problem."""
        if reply is None:
            return NO_RESPONSE
        try:
            code = str(reply.json()["error"]["code"])
        except (ValueError, KeyError, TypeError):
            self.note(f"{slot.function} returned {reply.status} without an error: {reply.body[:300]!r}")
            return str(reply.status)
        if code not in DOCUMENTED:
            self.note(f"{slot.function} returned {reply.status} {code}: {reply.body[:500]!r}")
        return code

    def run(self, slot: Slot, path: str = "/", body: bytes = b"") -> dict[str, Any] | None:
        """POST to process-data; the summary, or None."""
        reply, began = self.send(slot, "POST", path, body)
        summary: dict[str, Any] | None = None
        if reply is not None and reply.status == 200:
            try:
                summary = reply.json()
            except ValueError:
                self.note(f"process-data's summary was cut: {reply.body[:300]!r}")
        self.report(slot, path, began, str(summary["status"]) if summary else self.error(slot, reply))
        if summary is None:
            sleep(0.1)
        return summary

    def outcomes(self, function: str) -> Counter[str]:
        with self._lock:
            return Counter(call.outcome for call in self.ended if call.function == function)
