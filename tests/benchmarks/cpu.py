"""CPU seconds of processes, where the system tells of them: elsewhere None."""

import os
import sys
from pathlib import Path

from tests.stack import Stack


def process_cpu(pid: int) -> float | None:
    """Those of a process that has not ended, with all its threads."""
    if sys.platform != "linux":
        return None
    return sum(map(int, _fields(Path(f"/proc/{pid}/stat"))[11:13])) / os.sysconf("SC_CLK_TCK")


def postgres_cpu(stack: Stack) -> float | None:
    """Those of the server and of its sessions, those that ended included."""
    if sys.platform != "linux":
        return None
    server = stack.pid("postgres")
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = _fields(path)
        except OSError:  # it ended meanwhile
            continue
        is_server = path.parent.name == str(server)
        if is_server or int(fields[1]) == server:
            ticks += sum(map(int, fields[11:13]))
        if is_server:
            ticks += sum(map(int, fields[13:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _fields(path: Path) -> list[str]:
    """From the third one on: state, ppid, …"""
    return path.read_text(encoding="utf-8").rpartition(")")[2].split()
