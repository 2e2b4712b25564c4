"""Supervised processes: restarted when they exit, and stopped when their supervisor exits."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from threading import Event, Lock, Thread
from typing import Any, Protocol

from ..errors import LocalError
from ..output import Say

PROC = Path("/proc")
GUARD = Path(__file__).with_name("guard.py")
START_TIMEOUT = 60
"""Seconds within which a started process must become ready."""
MAX_ATTEMPTS = 5
"""The maximum number of attempts to start a process that has never been ready."""

_INITIAL_BACKOFF, _MAX_BACKOFF = 0.1, 10.0  # seconds


@dataclass(frozen=True)
class Identity:
    """A process, identified by its pid and its start time, because the OS reuses pids."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "Identity":
        return cls(pid, _start_time(pid))

    def alive(self) -> bool:
        return self.started != "" and _start_time(self.pid) == self.started

    def send(self, signum: signal.Signals) -> None:
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)


def stop_all(processes: Iterable[Identity], timeout: float) -> None:
    """Stop processes and wait until they have exited. Those still alive after `timeout` seconds are killed."""
    alive, deadline = list(processes), time.monotonic() + timeout
    for process in alive:
        process.send(signal.SIGINT)  # a fast shutdown of PostgreSQL; the other processes exit, too
    while alive := [process for process in alive if process.alive()]:
        if time.monotonic() > deadline:
            for process in alive:
                process.send(signal.SIGKILL)
        time.sleep(0.05)


def _start_time(pid: int) -> str:
    """Return the process's start time as the OS reports it; empty if it has exited."""
    if PROC.exists():
        try:
            fields = Path(f"{PROC}/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] == "Z" else fields[19]
    argv = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    result = subprocess.run(argv, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    state, _, started = result.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


@dataclass(frozen=True)
class Command:
    """A command line, and how to stop it: with `stop_signal`, then with SIGKILL after `stop_timeout` seconds.

    The process inherits `sockets`, which the supervisor closes once the process has started.
    """

    argv: list[str]
    environment: dict[str, str]
    directory: Path
    user: tuple[int, int] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 5
    sockets: tuple[socket, ...] = ()


class Component(Protocol):
    """A server or function that runs as a process."""

    def prepare(self) -> None:
        """Create files and data before the first start."""

    def command(self) -> Command:
        """Return the command for the next start. Each call may choose other ports."""

    def is_ready(self) -> bool:
        """Return whether it can serve requests."""


@dataclass
class Process:
    """A component's process, which `guard.py` runs and stops."""

    name: str
    component: Component
    log: Path
    say: Say
    on_change: Callable[[], None]
    ready: Event = field(default_factory=Event)
    identity: Identity | None = None
    restarts: int = 0
    failure: str | None = None

    def __post_init__(self) -> None:
        self._stopping = Event()
        self._start_finished = Event()  # ready for the first time, or given up
        self._was_ready = False
        self._lock = Lock()
        self._guard: subprocess.Popen[str] | None = None
        self._thread = Thread(target=self._supervise, name=self.name, daemon=True)

    def start(self) -> None:
        self.log.touch()
        self._thread.start()

    def wait_ready(self) -> None:
        """Wait until it is ready for the first time. Raise LocalError if it does not start."""
        self._start_finished.wait()
        if self.failure:
            raise LocalError(f"{self.name} failed to start: {self.failure}\n{self._log_tail()}")

    def status(self) -> dict[str, Any]:
        """Return its entry in the state file. `pid` and `started` are those of Identity."""
        identity = self.identity or Identity(0, "")
        return vars(identity) | {"ready": self.ready.is_set(), "restarts": self.restarts}

    def request_stop(self) -> None:
        """Begin to stop it."""
        self._stopping.set()
        with self._lock:
            if self._guard and self._guard.stdin:
                self._guard.stdin.close()

    def stop(self) -> None:
        """Stop it and wait until it has exited."""
        self.request_stop()
        if self._thread.ident:
            self._thread.join()

    def _supervise(self) -> None:
        backoff, attempts = _INITIAL_BACKOFF, 0
        while not self._stopping.is_set():
            self._was_ready = False
            try:
                outcome = self._run()
            except Exception as error:  # noqa: BLE001 - `wait_ready` must not wait forever
                outcome = str(error)
            if self._stopping.is_set():
                break
            attempts += 1
            if self._start_finished.is_set():
                self.restarts += 1
                self.on_change()
                self.say(f"{self.name} {outcome}; restarting")
            elif attempts == MAX_ATTEMPTS:
                self.failure = outcome
                break
            backoff = _INITIAL_BACKOFF if self._was_ready else min(backoff * 2, _MAX_BACKOFF)
            self._stopping.wait(backoff)
        self._start_finished.set()

    def _run(self) -> str:
        """Run the process until it exits. Return how it ended, as in "exited with status 1"."""
        with self._lock:
            if self._stopping.is_set():
                return "was stopped"
            guard = self._guard = self._start_guard()
        assert guard.stdout and guard.stdin
        try:
            pid = guard.stdout.readline().strip()
            if not pid:
                return f"could not be started (see {self.log})"
            self.identity = Identity.of(int(pid))
            self.on_change()
            if self._await_ready(guard):
                self._was_ready = True
                self._start_finished.set()
                self.ready.set()
                self.on_change()
            elif guard.poll() is None:
                return f"was not ready after {START_TIMEOUT} s"
            return f"exited {_describe_status(guard.wait())}"
        finally:
            self.ready.clear()
            self._clean_up(guard)

    def _start_guard(self) -> "subprocess.Popen[str]":
        command = self.component.command()
        options = ["--stop-signal", command.stop_signal.name, "--stop-timeout", str(command.stop_timeout)]
        options += ["--log", str(self.log)]
        if command.user:
            options += ["--user", "{}:{}".format(*command.user)]
        with ExitStack() as exits:
            for inherited in command.sockets:
                exits.enter_context(inherited)
            return subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), *options, "--", *command.argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=command.environment,
                cwd=command.directory,
                start_new_session=True,  # Ctrl-C must reach only the supervisor
                pass_fds=[inherited.fileno() for inherited in command.sockets],
            )

    def _await_ready(self, guard: "subprocess.Popen[str]") -> bool:
        deadline = time.monotonic() + START_TIMEOUT
        while guard.poll() is None and time.monotonic() < deadline and not self._stopping.is_set():
            if self.component.is_ready():
                return True
            time.sleep(0.05)
        return False

    def _clean_up(self, guard: "subprocess.Popen[str]") -> None:
        """Let the guard stop the process and exit; kill the process if the guard was killed."""
        for pipe in (guard.stdin, guard.stdout):
            if pipe:
                pipe.close()
        guard.wait()
        if self.identity:
            stop_all([self.identity], timeout=0)

    def _log_tail(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        except FileNotFoundError:
            return ""
        return "\n".join("  " + line.split(" ", 2)[-1] for line in lines)


def _describe_status(status: int) -> str:
    if status < 0:
        return f"because its guard was killed by {signal.Signals(-status).name}"
    if status > 128:
        with suppress(ValueError):
            return f"with {signal.Signals(status - 128).name}"
    return f"with status {status}"
