"""The state directory: where a stack keeps what it has, and which of its processes run."""

import fcntl
import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .environment import ROOT
from .errors import LocalError
from .processes import Identity

DEFAULT = ROOT / ".local"


class State:
    """One stack's directory. Who runs the stack holds its lock, and the lock ends with its holder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.secrets = self.directory / "secrets"
        self.logs = self.directory / "logs"
        self.build = self.directory / "build"
        self._lock = self.directory / "lock"
        self._record = self.directory / "running.json"

    def command(self, name: str) -> str:
        """What a person types to run a command on this stack."""
        where = "" if self.directory == DEFAULT else f" --state {shlex.quote(str(self.directory))}"
        return f"python3 infra/local {name}{where}"

    def create(self) -> None:
        """Make the directory, or close the one that is there to other users.

        LocalError when it holds something else: closing /tmp, say, would harm others.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if self.directory != DEFAULT and not self._lock.exists() and any(self.directory.iterdir()):
                raise LocalError(f"--state {self.directory} holds other files: the stack needs a directory of its own")
            self.directory.chmod(0o700)
            self._lock.touch()
            for directory in (self.logs, self.build, self.secrets):
                directory.mkdir(exist_ok=True)
            self.secrets.chmod(0o700)
        except OSError as error:
            raise LocalError(f"--state {self.directory} can't be used: {error.strerror}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock; LocalError when another process does."""
        with self._lock.open("a") as file:
            deadline = time.monotonic() + 1  # `running` holds it for a moment
            while not _acquire(file.fileno(), fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    running = self.read_record()
                    raise LocalError(
                        f"a stack runs in {self.directory} already: {running.get('url', 'it is still starting')} "
                        f"(pid {running.get('pid', 'not known yet')}); `{self.command('down')}` stops it, "
                        "--state DIR runs another one beside it"
                    )
                time.sleep(0.05)
            yield

    def wait_until_gone(self) -> None:
        """Wait until someone removes the directory: no command can find the stack then."""
        while self._lock.exists():
            time.sleep(1)

    def running(self) -> dict[str, Any] | None:
        """What the running stack says of itself; None when none runs."""
        if not self._lock.exists():
            return None
        with self._lock.open() as file:
            return None if _acquire(file.fileno(), fcntl.LOCK_SH) else self.read_record()

    def require_running(self) -> dict[str, Any]:
        running = self.running()
        if running is None or not running.get("ready"):
            how = "is still starting" if running is not None else "is not running"
            raise LocalError(f"the stack of {self.directory} {how}: `{self.command('up')}` starts it")
        return running

    def write_record(self, record: dict[str, Any]) -> None:
        partial = self._record.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=2), encoding="utf-8")
        partial.replace(self._record)

    def read_record(self) -> dict[str, Any]:
        """What was written last; empty after a clean stop."""
        try:
            record: dict[str, Any] = json.loads(self._record.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return record

    def clear_record(self) -> None:
        self._record.unlink(missing_ok=True)

    def leftovers(self) -> list[Identity]:
        """Processes of a stack that was killed; none after a clean stop."""
        return [Identity(one["pid"], one["started"]) for one in self.read_record().get("parts", {}).values()]


def _acquire(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
