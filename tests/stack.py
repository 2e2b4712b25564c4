"""The local stack as the tests use it, and direct access to its buckets and tables."""

import csv
import io
import json
import shlex
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pg8000.native
import urllib3
from minio import Minio

from infra.local.servers.postgres import POINTER

ROOT = Path(__file__).resolve().parent.parent
HANG_TIMEOUT = 600  # seconds after which a test fails instead of hanging; enough for slow machines

_MAX_PARTIAL_RUNS = 3


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_transient(self) -> bool:
        """Whether a retry may succeed. A function's own 500 has a body; the watchdog's has none."""
        return self.status in (429, 502, 503, 504) or (self.status == 500 and not self.body)


class Deployment(ABC):
    """Rollcall behind a gateway, wherever it runs."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """The settings that `infra/local env` prints: all addresses, and the operator's keys and password."""

    @property
    def url(self) -> str:
        return self.settings["gateway_url"]

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        """Send a request to the gateway. Underscores in header names stand for hyphens."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if token := self.settings.get("api_token"):
            fields.setdefault("Authorization", f"Bearer {token}")
        response = urllib3.request(
            method, self.url + path, body=body, headers=fields, timeout=HANG_TIMEOUT, retries=False
        )
        return Response(response.status, response.headers, response.data)

    def process(self, query: str = "") -> dict[str, Any]:
        """Run process-data and return its summary."""
        response = self.request("POST", f"/function/process-data{query}")
        assert response.status == 200, response.body
        summary: dict[str, Any] = response.json()
        return summary

    def erase(self, *user_ids: str) -> dict[str, Any]:
        """Erase people and return the summary."""
        response = self.request(
            "POST", "/function/process-data/erase?" + "&".join(f"user_id={user_id}" for user_id in user_ids)
        )
        assert response.status == 200, response.body
        summary: dict[str, Any] = response.json()
        return summary

    def event(self, *keys: str, bucket: str | None = None, **headers: str) -> Response:
        """Send process-data an event notification about these keys, as S3 would."""
        name = bucket or self.settings["source_bucket"]
        records = [{"s3": {"bucket": {"name": name}, "object": {"key": quote_plus(key)}}} for key in keys]
        body = json.dumps({"Records": records}).encode()
        return self.request("POST", "/function/process-data", body, Content_Type="application/json", **headers)

    def wait_until(self, condition: Callable[[], object], seconds: float = HANG_TIMEOUT) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"condition not met within {seconds} s"
            time.sleep(0.05)

    @cached_property
    def bucket(self) -> "Bucket":
        return Bucket(self.settings)


def connected(settings: Mapping[str, str], **others: str) -> pg8000.native.Connection:
    """Connect to PostgreSQL with a function's or the operator's settings, some of them replaced by `others`."""
    values = {**settings, **others}
    return pg8000.native.Connection(
        values["postgres_user"],
        host=values["postgres_host"],
        port=int(values["postgres_port"]),
        database=values["postgres_database"],
        password=values["postgres_password"],
        ssl_context=False if values["postgres_sslmode"] == "disable" else None,
        timeout=HANG_TIMEOUT,
    )


def read_env(text: str) -> dict[str, str]:
    """Return the settings in `name=value` lines, whose values are quoted as for a shell."""
    return dict(word.split("=", 1) for word in shlex.split(text))


def remove_home(state: Path) -> None:
    """Remove PostgreSQL's home directory, which is outside the state directory if root runs the stack.

    Once the state directory is gone, nothing else removes this home until a stack uses the same path again.
    """
    with suppress(OSError):
        shutil.rmtree((state / POINTER).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Stack(Deployment):
    """A local stack. `state` is its state directory."""

    state: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "infra.local", *arguments, "--state", str(self.state)]

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `infra/local` with these arguments on this stack's state directory.

        With `check`, raise AssertionError with its output if it fails.
        """
        command = self.command(*arguments)
        result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=HANG_TIMEOUT)
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def env(self, *function: str) -> dict[str, str]:
        return read_env(self.cli("env", *function).stdout)

    @cached_property
    def settings(self) -> Mapping[str, str]:
        """The operator's settings; the operator is PostgreSQL's superuser."""
        return self.env()

    @cached_property
    def process_settings(self) -> dict[str, str]:
        return self.env("process-data")

    @cached_property
    def query_settings(self) -> dict[str, str]:
        return self.env("query-data")

    def pid(self, component: str) -> int:
        """Return the pid of a component: postgres, seaweedfs or a function."""
        document = json.loads((self.state / "running.json").read_text(encoding="utf-8"))
        return int(document["components"][component]["pid"])

    def run_until_done(self, seconds: float = 120) -> dict[str, Any]:
        """Run process-data until a run is done, and return its summary. Retry while a backend is unavailable.

        Fail if more than a few runs are partial: a few are enough to finish if each does as much as it can.
        """
        deadline, partial_runs = time.monotonic() + seconds, 0
        while True:
            response = self.request("POST", "/function/process-data")
            if response.status == 200:
                summary: dict[str, Any] = response.json()
                if summary["status"] == "done":
                    return summary
                partial_runs += 1
                assert partial_runs <= _MAX_PARTIAL_RUNS, summary
            else:
                assert response.is_transient, response.body
            assert time.monotonic() < deadline, response.body
            time.sleep(0.1)

    def sql(self, statement: str, **parameters: object) -> list[list[Any]]:
        """Run a statement as the operator."""
        with connected(self.settings) as connection:
            return connection.run(statement, **parameters) or []

    def reset_tables(self) -> None:
        """Reset the tables to their state after the set-up; the objects stay."""
        with connected(self.settings) as connection:
            connection.run("truncate users, erased, rejected, runs, segments, hints restart identity")
            connection.run("insert into segments (start) values ('')")
            # with a new ETag, because query-data caches results by the state of the data
            connection.run(
                "update outputs set changed = 1, written = 0, rows = 0, etag = gen_random_uuid(), seconds = 0, "
                "written_at = null"
            )

    def remove(self) -> None:
        """Stop the stack and delete all its files."""
        self.cli("down", check=False)
        remove_home(self.state)
        shutil.rmtree(self.state, ignore_errors=True)


@contextmanager
def running(state: Path) -> Iterator[Stack]:
    """Run a separate stack without data until the end of the block."""
    stack = Stack(state)
    try:
        stack.cli("up", "--detach", "--port", "0", "--no-sample")
        yield stack
    finally:
        stack.remove()


class Bucket:
    """The source and result buckets, accessed with the operator's key.

    `put` and, by default, `remove` use the source bucket, `read` and `read_rows` the result bucket.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.source, self.result = settings["source_bucket"], settings["result_bucket"]
        self.client = Minio(
            endpoint=settings["s3_endpoint"],
            access_key=settings["s3_access_key"],
            secret_key=settings["s3_secret_key"],
            secure=settings["s3_secure"] == "true",
            region=settings["s3_region"],
            http_client=urllib3.PoolManager(maxsize=16, timeout=HANG_TIMEOUT),
        )

    def put(self, key: str, body: bytes) -> None:
        self.client.put_object(bucket_name=self.source, object_name=key, data=io.BytesIO(body), length=len(body))

    def put_person(self, user_id: str, first: str = "Ada", last: str = "Lovelace", birthts: int = 0) -> None:
        self.put(f"{user_id}.csv", f"first_name,last_name,birthts\n{first},{last},{birthts}\n".encode())

    def put_people(self, user_ids: Iterable[str], first: str = "Ada") -> None:
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(lambda user_id: self.put_person(user_id, first), user_ids))

    def remove(self, key: str, bucket: str | None = None) -> None:
        self.client.remove_object(bucket_name=bucket or self.source, object_name=key)

    def is_empty(self) -> bool:
        """Whether the source bucket has no object outside folders."""
        return all(item.is_dir for item in self.client.list_objects(bucket_name=self.source))

    def read(self, key: str) -> bytes:
        """Return an object of the result bucket."""
        response = self.client.get_object(bucket_name=self.result, object_name=key)
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()

    def modified(self, key: str) -> str:
        """Return the Last-Modified of a source object, in the format of erased.csv."""
        stat = self.client.stat_object(bucket_name=self.source, object_name=key)
        return f"{stat.last_modified:%Y-%m-%d %H:%M:%S}+00"

    def read_rows(self, key: str) -> list[dict[str, str]]:
        """Return the rows of a CSV in the result bucket."""
        return list(csv.DictReader(io.StringIO(self.read(key).decode(), newline="")))

    def clear(self) -> None:
        """Empty both buckets, including the folders that SeaweedFS keeps after their last object is removed."""
        for bucket in (self.source, self.result):
            top = list(self.client.list_objects(bucket_name=bucket))
            has_folders = any(item.is_dir for item in top)
            inner = list(self.client.list_objects(bucket_name=bucket, recursive=True)) if has_folders else []
            for items in (inner, top):
                keys = [str(item.object_name) for item in items]
                with ThreadPoolExecutor(8) as executor:
                    list(executor.map(self.remove, keys, [bucket] * len(keys)))
