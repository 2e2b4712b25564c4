"""Run a command, and stop it on SIGTERM or when standard input ends.

    python guard.py [--user UID:GID] [--stop-signal NAME] [--stop-timeout SECONDS] --log FILE -- COMMAND...

Standard input is a pipe from the parent process, and ends even if the parent is killed. The first line on standard
output is the command's pid. The command's output is appended to FILE, each line as `<UTC time> <pid> <text>`. This
module uses only the standard library: it runs without site-packages.
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

MAX_LINE = 64 * 1024
"""The maximum length of a log line in bytes. Longer lines are split."""


def main() -> int:
    options = _options()
    try:
        child = _start(options.command, options.user)
    except OSError as error:
        _write(options.log, os.getpid(), str(error).encode())
        return 1
    copier = Thread(target=_copy, args=(child, options.log), daemon=True)
    copier.start()

    def stop(*_: object) -> None:
        stop_signal = signal.Signals[options.stop_signal]
        Thread(target=_stop, args=(child, stop_signal, options.stop_timeout), daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    Thread(target=_call_at_end_of_input, args=(stop,), daemon=True).start()
    with suppress(OSError):  # fails if the supervisor has been killed; then standard input has ended, too
        print(child.pid, flush=True)
    status = child.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # child processes that the command left behind
    copier.join(1)
    os._exit(status if status >= 0 else 128 - status)  # a thread may still be reading standard input


def _call_at_end_of_input(callback: Callable[[], None]) -> None:
    sys.stdin.buffer.read()
    callback()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--user")
    parser.add_argument("--stop-signal", default="SIGTERM")
    parser.add_argument("--stop-timeout", type=float, default=5)
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
        close_fds=False,  # the command inherits the sockets that this process has inherited
        start_new_session=True,
        user=uid,
        group=gid,
        extra_groups=[] if user else None,
    )


def _copy(child: "subprocess.Popen[bytes]", log: Path) -> None:
    assert child.stdout
    while line := child.stdout.readline(MAX_LINE):
        with suppress(OSError):  # a full disk must not stop the command
            _write(log, child.pid, line.rstrip(b"\r\n"))


def _write(log: Path, pid: int, text: bytes) -> None:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    with log.open("ab", buffering=0) as file:
        file.write(b"%s %d %s\n" % (now.encode(), pid, text))


def _stop(child: "subprocess.Popen[bytes]", stop_signal: signal.Signals, stop_timeout: float) -> None:
    child.send_signal(stop_signal)
    try:
        child.wait(stop_timeout)
    except subprocess.TimeoutExpired:
        child.kill()


if __name__ == "__main__":
    sys.exit(main())
