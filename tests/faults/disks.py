"""Small file systems in memory for the data of PostgreSQL and SeaweedFS, which can be made full."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_SIZE = "32g"  # SeaweedFS plans for many volumes; memory is taken only for what is stored
_HOME_PREFIX = "/var/tmp/rollcall-postgres-"  # as infra/local names the home of a server that root starts


@dataclass(frozen=True)
class Disk:
    """A file system of its own."""

    path: Path

    @contextmanager
    def full(self) -> Iterator[None]:
        """Have no byte left until the end of the block: the file system shrinks to what is stored in it."""
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


def why_not() -> str:
    """Why there can be no such file systems; empty when there can."""
    if os.geteuid() != 0:
        return "only root may mount a small file system"
    probe = Path(f"/var/tmp/rollcall-disk-{secrets.token_hex(8)}")
    probe.mkdir()
    try:
        with _mounted(probe):
            return ""
    except (OSError, subprocess.CalledProcessError):
        return "this system mounts no tmpfs"
    finally:
        probe.rmdir()


@contextmanager
def small_disks(state: Path) -> Iterator[dict[str, Disk]]:
    """Let the stack that will be started in `state` keep its data on disks: those of postgres and of seaweedfs.

    The stack has to end before the block does.
    """
    home = Path(f"{_HOME_PREFIX}{secrets.token_hex(8)}")
    state.mkdir(parents=True)
    (state / "lock").touch()  # the directory is a stack's
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


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)
