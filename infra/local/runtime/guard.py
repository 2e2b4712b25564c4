"""Runs one command and stops it when standard input ends, as it does when the guard's starter is gone.

    python guard.py [--user UID:GID] [--signal NAME] [--patience SECONDS] --log FILE -- COMMAND...

A pipe works on every POSIX system and needs no one to outlive a SIGKILL. The command's pid is the first
line on standard output. What the command prints goes to FILE, each line as `<UTC time> <pid> <text>`.
Standard library only.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

LINE = 64 * 1024
"""Bytes of a line; a longer one is split."""


def main() -> int:
    options = _options()
    try:
        child = _start(options.command, options.user)
    except OSError as error:
        _write(options.log, os.getpid(), str(error).encode())
        return 1
    print(child.pid, flush=True)
    copier = Thread(target=_copy, args=(child, options.log), daemon=True)
    copier.start()

    def stop(*_: object) -> None:
        Thread(target=_stop, args=(child, signal.Signals[options.signal], options.patience), daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    Thread(target=_at_end_of_input, args=(stop,), daemon=True).start()
    status = child.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # what it started and left behind
    copier.join(1)
    os._exit(status if status >= 0 else 128 - status)  # a thread may still wait for input


def _at_end_of_input(then: Callable[[], None]) -> None:
    sys.stdin.buffer.read()
    then()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--user")
    parser.add_argument("--signal", default="SIGTERM")
    parser.add_argument("--patience", type=float, default=5)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def _start(command: list[str], user: str | None) -> "subprocess.Popen[bytes]":
    uid, gid = map(int, user.split(":")) if user else (None, None)
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=uid,
        group=gid,
        extra_groups=[] if user else None,
    )


def _copy(child: "subprocess.Popen[bytes]", log: Path) -> None:
    assert child.stdout
    while line := child.stdout.readline(LINE):
        with suppress(OSError):  # a full disk must not stop the command
            _write(log, child.pid, line.rstrip(b"\r\n"))


def _write(log: Path, pid: int, text: bytes) -> None:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    with log.open("ab", buffering=0) as file:
        file.write(b"%s %d %s\n" % (now.encode(), pid, text))


def _stop(child: "subprocess.Popen[bytes]", kindly: signal.Signals, patience: float) -> None:
    child.send_signal(kindly)
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    sys.exit(main())
