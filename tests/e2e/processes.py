"""Processes and their listening sockets, read from Linux's /proc."""

from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"  # the state in /proc/net/tcp


def process_tree(pid: int) -> list[int]:
    """Return the pids of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = path.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    pids = [pid]
    for parent in pids:
        pids += children.get(parent, [])
    return pids


def command_line(pid: int) -> bytes:
    """Return the command line of a process, or b"" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def listening_addresses(pids: list[int]) -> set[tuple[str, int]]:
    """Return the addresses (in hexadecimal, as in /proc/net/tcp) and ports that the processes listen on."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(FileNotFoundError):
                inodes.add(str(descriptor.readlink()))
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and f"socket:[{fields[9]}]" in inodes:
                address, port = fields[1].split(":")
                addresses.add((address, int(port, 16)))
    return addresses
