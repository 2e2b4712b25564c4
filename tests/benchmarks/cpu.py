"""CPU seconds of processes on Linux; None elsewhere."""

import os
import sys
from pathlib import Path

from tests.stack import Stack


def process_cpu(pid: int) -> float | None:
    """Return the CPU seconds of a running process with all its threads."""
    if sys.platform != "linux":
        return None
    return sum(map(int, _fields(Path(f"/proc/{pid}/stat"))[11:13])) / os.sysconf("SC_CLK_TCK")


def postgres_cpu(stack: Stack) -> float | None:
    """Return the CPU seconds of PostgreSQL's main process and of all its child processes, including ended ones."""
    if sys.platform != "linux":
        return None
    server = stack.pid("postgres")
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = _fields(path)
        except OSError:  # the process has ended
            continue
        is_server = path.parent.name == str(server)
        if is_server or int(fields[1]) == server:
            ticks += sum(map(int, fields[11:13]))
        if is_server:
            ticks += sum(map(int, fields[13:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _fields(path: Path) -> list[str]:
    """Return the fields of a stat file from the third on: state, ppid, …"""
    return path.read_text(encoding="utf-8").rpartition(")")[2].split()
