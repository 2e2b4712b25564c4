"""Processes that are started again when they end, and that end with whoever started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Protocol

from .errors import LocalError

PROC = Path("/proc")
GUARD = Path(__file__).with_name("guard.py")
STARTING = 60
"""Seconds a process may take until it is ready."""
ATTEMPTS = 5
"""Starts until a process that has never been ready is given up."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0


@dataclass(frozen=True)
class Identity:
    """A process, told apart from a later one that got the same pid by when it started."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "Identity":
        return cls(pid, _started(pid))

    def alive(self) -> bool:
        return self.started != "" and _started(self.pid) == self.started

    def send(self, what: signal.Signals) -> None:
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, what)


def end_all(identities: Iterable[Identity], patience: float) -> None:
    """End these and wait until they have: kindly first, and by SIGKILL after `patience` seconds."""
    left, deadline = list(identities), time.monotonic() + patience
    for one in left:
        one.send(signal.SIGINT)  # a fast shutdown to PostgreSQL, the end to anything else
    while left := [one for one in left if one.alive()]:
        if time.monotonic() > deadline:
            for one in left:
                one.send(signal.SIGKILL)
        time.sleep(0.05)


def _started(pid: int) -> str:
    """When the process started, in the system's own words; empty when it has ended."""
    if PROC.exists():
        try:
            fields = Path(f"{PROC}/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] == "Z" else fields[19]
    words = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    answer = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    state, _, started = answer.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


@dataclass(frozen=True)
class Command:
    """What to run and how to stop it: `stop_signal`, and SIGKILL after `patience` seconds."""

    words: list[str]
    environment: dict[str, str]
    directory: Path
    user: tuple[int, int] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    patience: float = 5


class Part(Protocol):
    """What a process runs."""

    def prepare(self) -> None:
        """Make what must be there before the first start."""

    def command(self) -> Command:
        """What to run; asked anew for each start, it may choose other ports."""

    def is_ready(self) -> bool:
        """Whether it can serve, found out by asking it."""


@dataclass
class Process:
    """A part's process under a guard."""

    name: str
    part: Part
    log: Path
    say: Callable[[str], None]
    changed: Callable[[], None]
    ready: Event = field(default_factory=Event)
    identity: Identity | None = None
    restarts: int = 0
    failure: str | None = None

    def __post_init__(self) -> None:
        self._stopping = Event()
        self._known = Event()  # ready for the first time, or given up
        self._was_ready = False
        self._lock = Lock()
        self._guard: subprocess.Popen[str] | None = None
        self._thread = Thread(target=self._supervise, name=self.name, daemon=True)

    def start(self) -> None:
        self.log.touch()
        self._thread.start()

    def wait_ready(self) -> None:
        """Wait until it is ready for the first time; LocalError when it doesn't come up."""
        self._known.wait()
        if self.failure:
            raise LocalError(f"{self.name} does not start: {self.failure}\n{self._last_words()}")

    def status(self) -> dict[str, Any]:
        """For the record; `pid` and `started` are its Identity's."""
        identity = self.identity or Identity(0, "")
        return vars(identity) | {"ready": self.ready.is_set(), "restarts": self.restarts}

    def stop(self) -> None:
        """Stop it and wait until it has ended."""
        self._stopping.set()
        with self._lock:
            if self._guard and self._guard.stdin:
                self._guard.stdin.close()
        if self._thread.ident:
            self._thread.join()

    def _supervise(self) -> None:
        pause, attempts = _FIRST_PAUSE, 0
        while not self._stopping.is_set():
            self._was_ready = False
            try:
                ended = self._run()
            except (LocalError, OSError) as error:
                ended = str(error)
            if self._stopping.is_set():
                break
            attempts += 1
            if not self._known.is_set() and attempts == ATTEMPTS:
                self.failure = ended
                break
            if self._known.is_set():
                self.restarts += 1
                self.say(f"{self.name} {ended}; it is started again")
            pause = _FIRST_PAUSE if self._was_ready else min(pause * 2, _LONGEST_PAUSE)
            self._stopping.wait(pause)
        self._known.set()

    def _run(self) -> str:
        """Run it once, until it ends; returns how it ended."""
        with self._lock:
            if self._stopping.is_set():
                return "was stopped"
            guard = self._guard = self._start_guard()
        assert guard.stdout and guard.stdin
        try:
            pid = guard.stdout.readline().strip()
            if not pid:
                return f"could not be run (see {self.log})"
            self.identity = Identity.of(int(pid))
            self.changed()
            if self._await_ready(guard):
                self._was_ready = True
                self._known.set()
                self.ready.set()
                self.changed()
            elif guard.poll() is None:
                return f"was not ready after {STARTING} s"
            return f"ended with {_described(guard.wait())}"
        finally:
            self.ready.clear()
            self._end(guard)

    def _start_guard(self) -> "subprocess.Popen[str]":
        command = self.part.command()
        options = ["--signal", command.stop_signal.name, "--patience", str(command.patience), "--log", str(self.log)]
        if command.user:
            options += ["--user", "{}:{}".format(*command.user)]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), *options, "--", *command.words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=command.environment,
            cwd=command.directory,
            start_new_session=True,  # Ctrl-C is for the one that supervises
        )

    def _await_ready(self, guard: "subprocess.Popen[str]") -> bool:
        deadline = time.monotonic() + STARTING
        while guard.poll() is None and time.monotonic() < deadline and not self._stopping.is_set():
            if self.part.is_ready():
                return True
            time.sleep(0.05)
        return False

    def _end(self, guard: "subprocess.Popen[str]") -> None:
        """Leave nothing behind, also when the guard itself was killed."""
        for pipe in (guard.stdin, guard.stdout):
            if pipe:
                pipe.close()
        guard.wait()
        if self.identity:
            end_all([self.identity], patience=0)

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        except FileNotFoundError:
            return ""
        return "\n".join("  " + line.split(" ", 2)[-1] for line in lines)


def _described(status: int) -> str:
    if status < 0:
        return f"its guard, by {signal.Signals(-status).name}"
    if status > 128:
        with suppress(ValueError):
            return signal.Signals(status - 128).name
    return f"status {status}"
