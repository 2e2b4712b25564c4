"""The memory of a process, where the system tells of it."""

import re
from pathlib import Path

MEBIBYTE = 1024 * 1024


def peak_memory(pid: int) -> int:
    """The most that a process that has not ended ever had, in bytes. FileNotFoundError where there is no /proc."""
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return 1024 * int(peak)
