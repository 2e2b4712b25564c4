"""A function's process beside the stack's own: with other settings, to be stopped, timed or measured."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import urllib3

from tests.memory import peak_memory
from tests.stack import ROOT, Answer, Stack


@dataclass
class Replica:
    """A function's process. `log` is what it wrote on standard error; `peak`, once it ended, its memory in bytes.

    Where there is no /proc, `peak` may be what the parent had when it started the process.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: IO[bytes]
    peak: int = 0

    def request(self, method: str, path: str, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = urllib3.request(method, self.url + path, headers=named, timeout=60, retries=False)
        return Answer(answer.status, answer.headers, answer.data)

    def lines(self) -> list[str]:
        self.log.seek(0)
        return self.log.read().decode().splitlines()

    def stop(self) -> int:
        """Ask it to end, wait for that, and return its status."""
        with suppress(FileNotFoundError):
            self.peak = peak_memory(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        if self.process.returncode is None:
            _, status, usage = os.wait4(self.process.pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.peak = self.peak or usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return self.process.returncode


@contextmanager
def replica(package: Path, settings: Mapping[str, str]) -> Iterator[Replica]:
    """Run the handler in `package`/function until the end of the block. It may not listen yet."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-P", str(ROOT / "infra/local/runtime/host.py"), "--port", str(port)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package), **settings}
    with TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stderr=log)
        running = Replica(process, f"http://127.0.0.1:{port}", log)
        try:
            yield running
        finally:
            if process.returncode is None:
                process.kill()
                running.wait()


@contextmanager
def query_replica(stack: Stack, **settings: str) -> Iterator[Replica]:
    """Run query-data with the stack's settings, some of them replaced, and wait until it answers."""
    with replica(stack.state / "build/query-data", stack.query_settings | settings) as running:
        first_answer(running, "/healthz")
        yield running


def first_answer(running: Replica, path: str) -> Answer:
    """Ask until it answers at all."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return running.request("GET", path)
        except urllib3.exceptions.HTTPError:
            if time.monotonic() > deadline or running.process.poll() is not None:
                raise
            time.sleep(0.002)
