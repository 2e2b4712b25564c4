"""The state directory: a stack's data, secrets and logs, its lock, and a state file that lists its processes."""

import fcntl
import json
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..environment import ROOT
from ..errors import LocalError

DEFAULT = ROOT / ".local"


class State:
    """A stack's directory. The supervisor holds the lock until it exits."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.secrets = self.directory / "secrets"
        self.logs = self.directory / "logs"
        self.build = self.directory / "build"
        self._lock = self.directory / "lock"
        self._state_file = self.directory / "running.json"
        self._held_lock_stat: os.stat_result | None = None

    def command(self, command: str) -> str:
        """Return the command line that runs `command`, such as `upload DIR`, on this stack."""
        option = "" if self.directory == DEFAULT else f" --state {shlex.quote(str(self.directory))}"
        return f"python3 infra/local {command}{option}"

    def create(self) -> None:
        """Create the directory, or make an existing one private.

        Raise LocalError if it contains unrelated files: making /tmp private, for example, would break other programs.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if self.directory != DEFAULT and not self._lock.exists() and any(self.directory.iterdir()):
                raise LocalError(f"--state {self.directory} contains other files: expected a new or empty directory")
            self.directory.chmod(0o700)
            self._lock.touch()
            for directory in (self.logs, self.build, self.secrets):
                directory.mkdir(exist_ok=True)
            self.secrets.chmod(0o700)
        except OSError as error:
            raise LocalError(f"--state {self.directory} cannot be used: {error.strerror}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock. Raise LocalError if another process holds it."""
        with self._lock.open("a") as file:
            deadline = time.monotonic() + 1  # `running()` takes the lock, too, but briefly
            while not _acquire(file.fileno(), fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    running = self.read_state_file()
                    raise LocalError(
                        f"a stack is already running in {self.directory}: {running.get('url', 'starting or stopping')} "
                        f"(pid {running.get('pid', 'not known yet')}); `{self.command('down')}` stops it, "
                        "--state DIR starts another one"
                    )
                time.sleep(0.05)
            self._held_lock_stat = os.fstat(file.fileno())
            yield

    def wait_until_removed(self) -> None:
        """Wait until the lock file is removed, probably with its directory: then no command can find this stack."""
        while not self.was_removed():
            time.sleep(1)

    def was_removed(self) -> bool:
        """Return whether this process's lock file was removed. Another stack's lock file may now be at its path."""
        if self._held_lock_stat is None:
            return False
        try:
            return not os.path.samestat(self._held_lock_stat, self._lock.stat())
        except (FileNotFoundError, NotADirectoryError):
            return True

    def running(self) -> dict[str, Any] | None:
        """Return the content of the running stack's state file; None if no stack is running."""
        if not self._lock.exists():
            return None
        with self._lock.open() as file:
            return None if _acquire(file.fileno(), fcntl.LOCK_SH) else self.read_state_file()

    def require_running(self) -> dict[str, Any]:
        """Return the content of the running stack's state file. Raise LocalError unless the stack is ready."""
        running = self.running()
        if running is None or not running.get("ready"):
            stopped = f"is not running: `{self.command('up')}` starts it"
            status = stopped if running is None else "is starting or stopping; try again"
            raise LocalError(f"the stack in {self.directory} {status}")
        return running

    def write_state_file(self, document: dict[str, Any]) -> None:
        if not self.was_removed():
            write_json(self._state_file, document)

    def read_state_file(self) -> dict[str, Any]:
        """Return the content of the state file; empty after a clean stop."""
        return read_json(self._state_file)

    def remove_state_file(self) -> None:
        if not self.was_removed():
            self._state_file.unlink(missing_ok=True)

    def leftovers(self) -> dict[str, dict[str, Any]]:
        """Return the entries of processes that a killed stack may have left running; none after a clean stop."""
        components = self.read_state_file().get("components", {})
        return {name: component | {"ready": False} for name, component in components.items()}


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Replace the file atomically."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=2), encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the document; empty if the file is missing or incomplete."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return document


def _acquire(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
