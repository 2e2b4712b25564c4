"""The system under test: a stack's servers behind proxies, and replicas of both functions with short timeouts."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from math import inf
from pathlib import Path
from queue import Full, Queue
from random import Random
from time import monotonic, sleep

import pg8000.native
from urllib3.exceptions import HTTPError

from infra.local.config.accounts import PASSWORD_SECRETS, SUPERUSER
from tests.e2e.processes import command_line, process_tree
from tests.faults.clock import Clock
from tests.faults.disks import Disk, separate_disks
from tests.gateway import serving_gateway
from tests.replica import Replica, replica
from tests.stack import Stack, connected, running
from tests.tcp_proxy import Proxy

RUN_DEADLINE = 3
RECOVERY = 120  # seconds after a fault within which everything must work again
MAX_CALL_SECONDS = RUN_DEADLINE + 15
"""The longest that a call may take: the margin over the deadline is that of exec_timeout in stack.yml."""

_COMMON_SETTINGS = {
    "postgres_timeout": str(RUN_DEADLINE + 5),
    "s3_timeout": "2",
    "auth": "none",
}
_FUNCTION_SETTINGS = {
    "process-data": {
        "run_deadline": str(RUN_DEADLINE), "workers": "3", "fetch_threads": "16", "segment_keys": "150",
        "batch_size": "50",
    },
    "query-data": {"stream_deadline": str(RUN_DEADLINE)},
}  # fmt: skip
_SESSIONS = """
select pid, usename, state, wait_event, now() - xact_start, pg_blocking_pids(pid), left(query, 80)
from pg_stat_activity
where usename like 'rollcall%'
"""
_QUEUE_CAPACITY = 10  # requests, as in OpenFaaS CE


@dataclass
class Slot:
    """Runs one replica of a function at a time; `kill` replaces it.

    `stops` has the periods in which SIGSTOP stopped the replica, `downtimes` those from a kill until the new replica
    was ready. Times are on the monotonic clock.
    """

    function: str
    number: int
    settings: dict[str, str]
    package: Path
    clock: Clock | None = None
    stops: list[tuple[float, float]] = field(default_factory=list)
    downtimes: list[tuple[float, float]] = field(default_factory=list)
    _exits: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start a replica, without waiting until it listens."""
        environment = self.settings | (self.clock.environment if self.clock else {})
        self._exits = ExitStack()
        self.replica: Replica = self._exits.enter_context(replica(self.package, environment))

    def wait_ready(self) -> None:
        while not self._is_ready():
            sleep(0.1)
        if self.clock:
            assert self.clock.is_used_by(self.replica.process.pid), self.replica.lines()

    def _is_ready(self) -> bool:
        try:
            return self.replica.request("GET", "/_/health").status == 200
        except HTTPError:
            assert self.replica.process.poll() is None, self.replica.lines()
            return False

    def kill(self) -> None:
        """Kill the replica with SIGKILL, replace it, as OpenFaaS does, and wait until the new one is ready."""
        self.downtimes.append((monotonic(), inf))
        self.close()
        self.start()
        self.wait_ready()
        self.downtimes[-1] = (self.downtimes[-1][0], monotonic())

    @contextmanager
    def stopped(self) -> Iterator[None]:
        started_at = monotonic()
        with stopped([self.replica.process.pid]):
            yield
        self.stops.append((started_at, monotonic()))

    def stopped_for(self, begin: float, end: float) -> float:
        """Return for how many seconds of a period the replica was stopped."""
        return sum(max(0.0, min(end, until) - max(begin, since)) for since, until in self.stops)

    def may_drop_connections(self, begin: float, end: float) -> bool:
        """Whether calls in this period may get no response: the replica was killed, or its clock jumped.

        After a jump, waitress may take a new connection for an idle one and close it.
        """
        periods = [*self.downtimes, *(self.clock.jumps if self.clock else ())]
        return any(since <= end and begin <= until for since, until in periods)

    def close(self) -> None:
        self._exits.close()


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Send SIGSTOP, and SIGCONT at the end of the block. The processes may have ended."""
    for pid in pids:
        send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            send(pid, signal.SIGCONT)


def send(pid: int, signum: signal.Signals) -> None:
    """Send a signal to a process, which may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


class Subject:
    """The system under test, with the proxies, disks and clocks that its faults use.

    Each function has two replicas. With `library` (libfaketime), the first of them has a clock of its own, which jumps.
    `queue` has the queued continuations. `restarts` counts the restarts after a full disk, by server. `exits` ends what
    the constructor starts.
    """

    def __init__(
        self, stack: Stack, random: Random, disks: dict[str, Disk], library: Path | None, exits: ExitStack
    ) -> None:
        self.stack, self.disks = stack, disks
        self.restarts: Counter[str] = Counter()
        self.queue: Queue[str] = Queue(_QUEUE_CAPACITY)
        gateway = exits.enter_context(serving_gateway(self._enqueue))
        settings = stack.process_settings
        addresses = {
            "postgres": (settings["postgres_host"], int(settings["postgres_port"])),
            "s3": _split(settings["s3_endpoint"]),
            "gateway": _split(gateway.removeprefix("http://")),
        }
        self.proxies = {name: Proxy(*address, random) for name, address in addresses.items()}
        for proxy in self.proxies.values():
            exits.callback(proxy.close)
        through_proxies = _COMMON_SETTINGS | {
            "postgres_port": str(self.proxies["postgres"].port),
            "s3_endpoint": f"127.0.0.1:{self.proxies['s3'].port}",
            "gateway_url": f"http://127.0.0.1:{self.proxies['gateway'].port}",
        }
        self.slots = [
            Slot(name, number, stack.env(name) | through_proxies | extra, stack.state / "build" / name, clock)
            for name, extra in _FUNCTION_SETTINGS.items()
            for number, clock in enumerate((Clock(library, stack.state / f"clock-{name}") if library else None, None))
        ]
        for slot in self.slots:
            slot.start()
            exits.callback(slot.close)
        for slot in self.slots:
            slot.wait_ready()

    def _enqueue(self, path: str, _authorization: str | None) -> int:
        """Queue a continuation, as the gateway does. Return the HTTP status."""
        try:
            self.queue.put_nowait(path.partition("?")[2])
        except Full:
            return 429
        return 202

    @property
    def functions(self) -> list[str]:
        return list(_FUNCTION_SETTINGS)

    def slots_of(self, function: str) -> list[Slot]:
        return [slot for slot in self.slots if slot.function == function]

    def pids(self, server: str) -> list[int]:
        """Return the pids of a server and its child processes."""
        return process_tree(self.stack.pid(server))

    def sessions(self) -> list[int]:
        """Return the pids of the functions' sessions in PostgreSQL."""
        return [pid for pid in self.pids("postgres")[1:] if b"rollcall_" in command_line(pid)]

    def connect_as_superuser(self) -> pg8000.native.Connection:
        password = (self.stack.state / "secrets" / PASSWORD_SECRETS[SUPERUSER]).read_text(encoding="utf-8").strip()
        return connected(self.stack.process_settings, postgres_user=SUPERUSER, postgres_password=password)

    def both_accept_writes(self) -> bool:
        """Whether both servers accept writes that bypass the proxies."""
        return self.accepts_writes("postgres") and self.accepts_writes("seaweedfs")

    def accepts_writes(self, server: str) -> bool:
        try:
            if server == "postgres":
                self.stack.sql("create temporary table probe as select 1")
            else:
                bucket = self.stack.bucket
                for name in (bucket.source, bucket.result):  # with content: SeaweedFS stores empty objects elsewhere
                    bucket.client.put_object(bucket_name=name, object_name="~probe", data=BytesIO(b"x"), length=1)
        except Exception:  # noqa: BLE001 - whatever the clients raise while a server is unavailable
            return False
        return True

    def diagnosis(self) -> str:
        """Return what may explain a problem: sessions, errors, logs, and whether the servers accept writes."""
        try:
            with closing(self.connect_as_superuser()) as connection:
                sessions: object = connection.run(_SESSIONS)
        except Exception as error:  # noqa: BLE001 - the server may be unavailable
            sessions = error
        errors = {f"{slot.function} {slot.number}": slot.replica.errors()[-3:] for slot in self.slots}
        return (
            f"the servers accept writes: {self.both_accept_writes()}; sessions: {sessions}; errors: {errors}; "
            f"logs: {self._log_tail()}"
        )

    def _log_tail(self, lines: int = 10) -> dict[str, list[str]]:
        """Return the last lines of each of the stack's logs."""
        logs = sorted((self.stack.state / "logs").glob("*.log"))
        return {path.stem: path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:] for path in logs}


@contextmanager
def subject(state: Path, random: Random, *, with_disks: bool, library: Path | None) -> Iterator[Subject]:
    """Start the system under test."""
    with ExitStack() as exits:
        disks = exits.enter_context(separate_disks(state)) if with_disks else {}
        stack = exits.enter_context(running(state))
        yield Subject(stack, random, disks, library, exits)


def _split(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host, int(port)
