"""Separate processes of the functions, with settings of their own. Tests can stop and measure them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import IO

import urllib3

from infra.local.runtime.ports import bound_socket
from tests.memory import peak_memory
from tests.stack import HANG_TIMEOUT, ROOT, Response, Stack


@dataclass
class Replica:
    """A function's process. `log` is its standard error; `peak` is its peak memory in bytes.

    `stop` reads the peak from /proc if possible. Otherwise `wait` sets it to `ru_maxrss`, which starts at the parent's
    memory and so may be too high.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: IO[bytes]
    peak: int = 0

    def request(self, method: str, path: str, **headers: str) -> Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        response = urllib3.request(method, self.url + path, headers=fields, timeout=HANG_TIMEOUT, retries=False)
        return Response(response.status, response.headers, response.data)

    def lines(self) -> list[str]:
        descriptor = self.log.fileno()
        # pread does not move the offset of the descriptor, at which the process writes
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode().splitlines()

    def errors(self) -> list[str]:
        """Return the log lines with level error."""
        return [line for line in self.lines() if line.startswith('{"level": "error"')]

    def stop(self) -> int:
        """Send SIGTERM, wait for the process and return its exit status."""
        if self.process.poll() is None:
            with suppress(FileNotFoundError):
                self.peak = peak_memory(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        if self.process.returncode is None:
            killer = Timer(HANG_TIMEOUT, self.process.kill)
            killer.start()
            _, status, usage = os.wait4(self.process.pid, 0)
            killer.cancel()
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.peak = self.peak or usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return self.process.returncode


@contextmanager
def replica(package: Path, settings: Mapping[str, str]) -> Iterator[Replica]:
    """Run the handler in `package`/function until the end of the block. It may not be listening yet."""
    host = ROOT / "infra/local/runtime/host.py"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package), **settings}
    with TemporaryFile() as log:
        with bound_socket() as bound:
            port, descriptor = bound.getsockname()[1], bound.fileno()
            command = [sys.executable, "-P", str(host), "--socket", str(descriptor)]
            process = subprocess.Popen(command, env=environment, stderr=log, pass_fds=[descriptor])
        running = Replica(process, f"http://127.0.0.1:{port}", log)
        try:
            yield running
        finally:
            if process.returncode is None:
                process.kill()
                running.wait()


@contextmanager
def query_replica(stack: Stack, **settings: str) -> Iterator[Replica]:
    """Run query-data with the stack's settings, some of them replaced, and wait until it is ready."""
    with replica(stack.state / "build/query-data", stack.query_settings | settings) as running:
        wait_until_ready(running, "/healthz")
        yield running


def wait_until_ready(running: Replica, path: str) -> Response:
    """Send GET requests until there is a response, and return it."""
    deadline = time.monotonic() + HANG_TIMEOUT
    while True:
        try:
            return running.request("GET", path)
        except urllib3.exceptions.HTTPError:
            if time.monotonic() > deadline or running.process.poll() is not None:
                raise
            time.sleep(0.002)
