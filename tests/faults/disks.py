"""File systems in memory that can be made full, for the data of PostgreSQL and SeaweedFS."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_SIZE = "32g"  # SeaweedFS requires space for many volumes; memory is used only for stored data
_HOME_PREFIX = "/var/tmp/rollcall-postgres-"
"""The prefix that infra/local gives to PostgreSQL's home directory if root runs the stack."""


@dataclass(frozen=True)
class Disk:
    """A separate file system."""

    path: Path

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no free space until the end of the block, by shrinking the file system to its content."""
        self._shrink()
        try:
            yield
        finally:
            self._resize(_SIZE)

    def _shrink(self) -> None:
        while True:
            status = os.statvfs(self.path)
            used = (status.f_blocks - status.f_bfree) * status.f_frsize
            try:
                return self._resize(str(used))
            except subprocess.CalledProcessError:  # more was stored meanwhile
                continue

    def _resize(self, size: str) -> None:
        _mount("-o", f"remount,size={size}", str(self.path))


def unavailable_reason() -> str:
    """Return why such file systems are unavailable, or an empty string."""
    if os.geteuid() != 0:
        return "mounting a file system requires root"
    probe = Path(f"/var/tmp/rollcall-disk-{secrets.token_hex(8)}")
    probe.mkdir()
    try:
        with _mounted(probe):
            return ""
    except (OSError, subprocess.CalledProcessError):
        return "this system cannot mount a tmpfs"
    finally:
        probe.rmdir()


@contextmanager
def separate_disks(state: Path) -> Iterator[dict[str, Disk]]:
    """Mount disks for the data of a stack that will be started in `state`, and yield them by server.

    The stack must end before the block does.
    """
    home = Path(f"{_HOME_PREFIX}{secrets.token_hex(8)}")
    state.mkdir(parents=True)
    (state / "lock").touch()  # marks the directory as a stack's
    (state / "postgres-home").write_text(str(home), encoding="utf-8")
    with ExitStack() as mounts:
        for path in (home, state / "seaweedfs"):
            path.mkdir()
            mounts.callback(shutil.rmtree, path, ignore_errors=True)
            mounts.enter_context(_mounted(path))
        yield {"postgres": Disk(home), "seaweedfs": Disk(state / "seaweedfs")}


@contextmanager
def _mounted(path: Path) -> Iterator[None]:
    _mount("-t", "tmpfs", "-o", f"size={_SIZE},mode=0755", "tmpfs", str(path))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
