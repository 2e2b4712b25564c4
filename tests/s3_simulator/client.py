"""A simulated S3 service, for benchmarks and tests with more objects than can be uploaded in a reasonable time.

The objects of the bucket `src` are generated from their keys. Requests are not authenticated. The simulator supports
only the requests that Rollcall makes; others get 501 NotImplemented. It runs in a process of its own, and is written to
use little CPU, as it shares the cores with the code under measurement.

    with simulated_s3(people=200_000, photos=100_000, page_seconds=0.1, get_seconds=0.04) as simulator:
        simulator.endpoint  # "127.0.0.1:port", plain HTTP, any credentials

- `src` has `<id>.csv` for `people` consecutive ids of equal length, and `<id>.png` for `photos` of them, evenly
  spread. It supports ListObjectsV2, GET and HEAD. Listing pages are delayed by `page_seconds`, other responses by
  `get_seconds`.
- `res` is empty at first. It supports PUT, multipart uploads, GET and HEAD, without delay. The bodies of multipart
  uploads and of objects over 8 MiB are not kept, so a GET of such an object fails.

An ETag in `src` identifies the key and its version, but is not an MD5 sum.
"""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Simulator:
    """A simulator in another process.

    In its methods, `first` is the index of the first of `count` users. The user `first_id` has index 0.
    """

    endpoint: str

    def counts(self) -> dict[str, int]:
        """Return the numbers of LIST, GET, HEAD and PUT requests since the last reset. Parts of uploads are PUTs."""
        counts: dict[str, int] = self._control(action="counts")
        return counts

    def reset(self) -> None:
        self._control(action="reset")

    def cpu_seconds(self) -> float:
        """Return the CPU time that the simulator has used since it started."""
        return float(self._control(action="cpu_seconds"))

    def change(self, first: int, count: int) -> None:
        """Give the CSVs of `count` users new content and ETags, and the current time as Last-Modified."""
        self._control(action="change", first=first, count=count)

    def fail(self, first: int, count: int) -> None:
        """Make GET and HEAD return 500 for the objects of `count` users, in addition to objects that already fail."""
        self._control(action="fail", first=first, count=count)

    def recover(self) -> None:
        """Stop all failures."""
        self._control(action="recover")

    def set_latency(self, page_seconds: float, get_seconds: float) -> None:
        self._control(action="set_latency", page_seconds=page_seconds, get_seconds=get_seconds)

    def _control(self, **command: object) -> Any:
        connection = http.client.HTTPConnection(self.endpoint, timeout=30)
        try:
            connection.request("POST", "/-/control", json.dumps(command))
            response = connection.getresponse()
            body = response.read().decode()
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(body)
        return json.loads(body)


@contextmanager
def simulated_s3(
    *,
    people: int,
    photos: int = 0,
    page_seconds: float = 0,
    get_seconds: float = 0,
    first_id: int = 1_000_000_000,
) -> Iterator[Simulator]:
    """Run a simulator until the end of the block. Raise RuntimeError if it does not start."""
    options = {
        "people": people,
        "photos": photos,
        "page-seconds": page_seconds,
        "get-seconds": get_seconds,
        "first-id": first_id,
    }
    command = [sys.executable, "-m", "tests.s3_simulator", *[f"--{name}={value}" for name, value in options.items()]]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().decode().strip()
            if not endpoint:
                raise RuntimeError("the S3 simulator did not start")
            yield Simulator(endpoint)
        finally:
            process.kill()
