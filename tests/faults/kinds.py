"""The kinds of faults, each with one target."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from random import Random

import pg8000.exceptions
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from tests import tcp_proxy
from tests.faults.subject import RECOVERY, Slot, Subject, send, stopped
from tests.tcp_proxy import Fault

Inject = Callable[[Subject, Random], AbstractContextManager[None]]
"""Injects a fault. A lasting fault ends with the block."""

STORES = ("postgres", "s3")
KEEPALIVE_SECONDS = 5.0  # after which the proxy ends vanished clients' connections; real keepalives take 50 s
JUMPS = (-315_360_000, -86_400, -3_600, -600, -60, 60, 600, 3_600, 86_400, 315_360_000)  # seconds

_WAL_FILES = 100  # more than PostgreSQL recycles
_WRITE_RECOVERY_SECONDS = {"postgres": 40.0, "seaweedfs": 10.0}
"""A server whose disk was full has to accept writes again within this time; otherwise it is restarted."""

_LARGE = bytes(1 << 20)


@dataclass(frozen=True)
class Kind:
    """A kind of fault and its target: a process with its disk, or the network in front of it."""

    name: str
    target: str
    inject: Inject
    is_network: bool = False

    @property
    def group(self) -> str:
        """The table row that counts this kind."""
        if self.is_network:
            return f"{self.target}: network"
        signal_name, _, session = self.name.partition(" of ")
        if not signal_name.startswith("SIG"):
            return str(self)
        return f"{self.target}{' session' if session else ''}: SIGKILL or SIGSTOP"

    @property
    def place(self) -> str:
        """The place of the fault. Concurrent faults have different places."""
        return f"network of {self.target}" if self.is_network else self.target

    def __str__(self) -> str:
        return f"{self.target}: {self.name}"


def kinds(subject: Subject) -> list[Kind]:
    """Return all kinds that are possible for this subject, except `vanished_clients`."""
    return [
        *(_network(name, target) for target in STORES for name in _NETWORK_FAULTS),
        *(_network(name, "gateway") for name in (tcp_proxy.REFUSE, tcp_proxy.HANG)),
        *(
            Kind(name, function, partial(inject, function))
            for function in subject.functions
            for name, inject in _FUNCTION_FAULTS.items()
        ),
        Kind("SIGKILL", "postgres", partial(_kill_server, "postgres")),
        Kind("SIGKILL of a session", "postgres", _kill_session),
        Kind("SIGSTOP", "postgres", partial(_stop_server, "postgres")),
        Kind("SIGSTOP of a session", "postgres", _stop_session),
        Kind("SIGKILL", "s3", partial(_kill_server, "seaweedfs")),
        Kind("SIGSTOP", "s3", partial(_stop_server, "seaweedfs")),
        *((Kind("disk full", "postgres", _fill_postgres), Kind("disk full", "s3", _fill_s3)) if subject.disks else ()),
        *(Kind("clock jumps", slot.function, partial(_set_clock, slot)) for slot in subject.slots if slot.clock),
    ]


def vanished_clients() -> Kind:
    """Return the kind of fault in which clients vanish but their connections stay open.

    Only timeouts end their sessions.
    """
    return Kind(
        "vanish, no keepalive",
        "postgres",
        lambda subject, _: subject.proxies["postgres"].faulty(Fault(tcp_proxy.VANISH, close_after=600)),
        is_network=True,
    )


_NETWORK_FAULTS: dict[str, Callable[[Random], Fault]] = {
    tcp_proxy.DELAY: lambda random: Fault(tcp_proxy.DELAY, seconds=random.uniform(0.02, 0.5)),
    tcp_proxy.THROTTLE: lambda random: Fault(tcp_proxy.THROTTLE, rate=random.randrange(20_000, 500_000)),
    tcp_proxy.CUT: lambda _: Fault(tcp_proxy.CUT),
    tcp_proxy.RESET: lambda _: Fault(tcp_proxy.RESET),
    tcp_proxy.REFUSE: lambda _: Fault(tcp_proxy.REFUSE),
    tcp_proxy.HANG: lambda _: Fault(tcp_proxy.HANG),
    tcp_proxy.VANISH: lambda _: Fault(tcp_proxy.VANISH, close_after=KEEPALIVE_SECONDS),
}


def _network(name: str, target: str) -> Kind:
    def inject(subject: Subject, random: Random) -> AbstractContextManager[None]:
        return subject.proxies[target].faulty(_NETWORK_FAULTS[name](random))

    return Kind(name, target, inject, is_network=True)


@contextmanager
def _kill_function(function: str, subject: Subject, random: Random) -> Iterator[None]:
    random.choice(subject.slots_of(function)).kill()
    yield


def _stop_function(function: str, subject: Subject, random: Random) -> AbstractContextManager[None]:
    return random.choice(subject.slots_of(function)).stopped()


_FUNCTION_FAULTS: dict[str, Callable[[str, Subject, Random], AbstractContextManager[None]]] = {
    "SIGKILL": _kill_function,
    "SIGSTOP": _stop_function,
}


@contextmanager
def _kill_server(server: str, subject: Subject, _: Random) -> Iterator[None]:
    """Send SIGKILL. At the end of the block, wait until the server has a new pid and both servers accept writes."""
    pid = subject.stack.pid(server)
    send(pid, signal.SIGKILL)
    yield
    deadline = time.monotonic() + RECOVERY
    while subject.stack.pid(server) == pid or not subject.both_accept_writes():
        if time.monotonic() > deadline:
            return  # the trial then reports that the replicas do not recover
        time.sleep(0.1)


@contextmanager
def _kill_session(subject: Subject, random: Random) -> Iterator[None]:
    """Send SIGKILL to one session: PostgreSQL then ends all sessions and recovers."""
    for pid in _random_session(subject, random):
        send(pid, signal.SIGKILL)
    yield


def _stop_server(server: str, subject: Subject, _: Random) -> AbstractContextManager[None]:
    return stopped(subject.pids(server))


def _stop_session(subject: Subject, random: Random) -> AbstractContextManager[None]:
    return stopped(_random_session(subject, random))


def _random_session(subject: Subject, random: Random) -> list[int]:
    """Return the pid of a session, in a list. Wait up to RECOVERY seconds for a session; then return an empty list."""
    deadline = time.monotonic() + RECOVERY
    while not (sessions := subject.sessions()):
        if time.monotonic() > deadline:
            return []  # the trial then reports that the replicas do not recover
        time.sleep(0.1)
    return [random.choice(sessions)]


@contextmanager
def _fill_postgres(subject: Subject, random: Random) -> Iterator[None]:
    """Fill the disk and use up the recycled WAL files, because only new WAL files need free space."""
    with subject.disks["postgres"].full():
        with suppress(pg8000.exceptions.Error, OSError), subject.connect_as_superuser() as connection:
            for _ in range(_WAL_FILES):
                connection.run("select pg_logical_emit_message(true, 'full', 'full'), pg_switch_wal()")
        yield
    _restart_if_unavailable("postgres", subject, random)


@contextmanager
def _fill_s3(subject: Subject, random: Random) -> Iterator[None]:
    bucket = subject.stack.bucket
    with subject.disks["seaweedfs"].full():
        with suppress(MinioException, HTTPError, OSError):
            for _ in range(10):
                bucket.client.put_object(
                    bucket_name=bucket.result, object_name="full", data=BytesIO(_LARGE), length=len(_LARGE)
                )
        yield
    _restart_if_unavailable("seaweedfs", subject, random)


def _restart_if_unavailable(server: str, subject: Subject, random: Random) -> None:
    """Wait until a server whose disk was full accepts writes. If necessary, restart it, as OPERATIONS.md says.

    SeaweedFS may reject all writes, and PostgreSQL may stay in crash recovery.
    """
    deadline = time.monotonic() + _WRITE_RECOVERY_SECONDS[server]
    while not subject.accepts_writes(server):
        if time.monotonic() > deadline:
            with _kill_server(server, subject, random):
                subject.restarts[server] += 1
            return
        time.sleep(0.5)


def _set_clock(slot: Slot, _: Subject, random: Random) -> AbstractContextManager[None]:
    assert slot.clock
    return slot.clock.jumped(random.choice(JUMPS))
