"""The local stack as the tests use it, and direct access to its bucket and tables."""

import csv
import io
import json
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pg8000.native
import urllib3
from minio import Minio

from infra.local.servers.postgres import remove_abandoned_homes

ROOT = Path(__file__).resolve().parent.parent

_MAX_PARTIAL_RUNS = 3


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_transient(self) -> bool:
        """Whether it is an error that another try after a moment may not meet. A function's own 500 has a body."""
        return self.status in (429, 502, 503, 504) or (self.status == 500 and not self.body)


class Deployment(ABC):
    """Rollcall behind a gateway, wherever it runs."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """What `infra/local env` prints: where everything is, with an operator's keys and password."""

    @property
    def url(self) -> str:
        return self.settings["gateway_url"]

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """A request to the gateway; header names are given with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token := self.settings.get("api_token"):
            named.setdefault("Authorization", f"Bearer {token}")
        answer = urllib3.request(method, self.url + path, body=body, headers=named, timeout=120, retries=False)
        return Answer(answer.status, answer.headers, answer.data)

    def process(self, query: str = "") -> dict[str, Any]:
        """Run process-data and return its summary."""
        answer = self.request("POST", f"/function/process-data{query}")
        assert answer.status == 200, answer.body
        summary: dict[str, Any] = answer.json()
        return summary

    def erase(self, *user_ids: str) -> dict[str, Any]:
        """Erase people and return the summary."""
        answer = self.request("POST", "/function/process-data/erase?" + "&".join(f"user_id={one}" for one in user_ids))
        assert answer.status == 200, answer.body
        summary: dict[str, Any] = answer.json()
        return summary

    def event(self, *keys: str, bucket: str | None = None, **headers: str) -> Answer:
        """Tell process-data that something happened to these keys, as S3 would."""
        name = bucket or self.settings["source_bucket"]
        records = [{"s3": {"bucket": {"name": name}, "object": {"key": quote_plus(key)}}} for key in keys]
        body = json.dumps({"Records": records}).encode()
        return self.request("POST", "/function/process-data", body, Content_Type="application/json", **headers)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not so after {seconds} s"
            time.sleep(0.05)

    @cached_property
    def bucket(self) -> "Bucket":
        return Bucket(self.settings)


def connected(settings: Mapping[str, str], **others: str) -> pg8000.native.Connection:
    """A connection to PostgreSQL by a function's or the operator's settings, some of them replaced by `others`."""
    values = {**settings, **others}
    return pg8000.native.Connection(
        values["postgres_user"],
        host=values["postgres_host"],
        port=int(values["postgres_port"]),
        database=values["postgres_database"],
        password=values["postgres_password"],
        ssl_context=False if values["postgres_sslmode"] == "disable" else None,  # the default one takes 30 ms to make
        timeout=60,
    )


def read_env(text: str) -> dict[str, str]:
    """The settings in `name=value` lines."""
    return dict(line.split("=", 1) for line in text.splitlines())


@dataclass(frozen=True)
class Stack(Deployment):
    """A local stack; `state` is its state directory."""

    state: Path

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `infra/local` with these arguments on this stack's state directory."""
        command = [sys.executable, "-m", "infra.local", *arguments, "--state", str(self.state)]
        return subprocess.run(command, cwd=ROOT, check=check, capture_output=True, text=True, timeout=180)

    def env(self, *function: str) -> dict[str, str]:
        return read_env(self.cli("env", *function).stdout)

    @cached_property
    def settings(self) -> Mapping[str, str]:
        """The operator's, who is PostgreSQL's superuser."""
        return self.env()

    @cached_property
    def process_settings(self) -> dict[str, str]:
        return self.env("process-data")

    @cached_property
    def query_settings(self) -> dict[str, str]:
        return self.env("query-data")

    def pid(self, part: str) -> int:
        """The process of a part: postgres, seaweedfs or a function."""
        record = json.loads((self.state / "running.json").read_text(encoding="utf-8"))
        return int(record["parts"][part]["pid"])

    def settle(self, seconds: float = 120) -> dict[str, Any]:
        """Run process-data until a run is done, whatever is unavailable meanwhile; returns its summary.

        Few runs may end before: each one does what it can, and not only a little of it.
        """
        deadline, partial = time.monotonic() + seconds, 0
        while True:
            answer = self.request("POST", "/function/process-data")
            if answer.status == 200:
                summary: dict[str, Any] = answer.json()
                if summary["status"] == "done":
                    return summary
                partial += 1
                assert partial <= _MAX_PARTIAL_RUNS, summary
            else:
                assert answer.is_transient, answer.body
            assert time.monotonic() < deadline, answer.body
            time.sleep(0.1)

    def sql(self, statement: str, **parameters: object) -> list[list[Any]]:
        """Run a statement as the operator."""
        with connected(self.settings) as connection:
            return connection.run(statement, **parameters) or []

    def remove(self) -> None:
        """Stop it, and leave nothing of it."""
        self.cli("down", check=False)
        shutil.rmtree(self.state, ignore_errors=True)
        remove_abandoned_homes()


@contextmanager
def running(state: Path) -> Iterator[Stack]:
    """An empty stack of one's own."""
    stack = Stack(state)
    try:
        stack.cli("up", "--detach", "--port", "0", "--no-sample")
        yield stack
    finally:
        stack.remove()


class Bucket:
    """Source and result bucket through the operator's key."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.source, self.result = settings["source_bucket"], settings["result_bucket"]
        self.client = Minio(
            endpoint=settings["s3_endpoint"],
            access_key=settings["s3_access_key"],
            secret_key=settings["s3_secret_key"],
            secure=settings["s3_secure"] == "true",
            region=settings["s3_region"],
            http_client=urllib3.PoolManager(maxsize=16, timeout=30),
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
        """Whether the source bucket has no object."""
        return next(iter(self.client.list_objects(bucket_name=self.source, recursive=True)), None) is None

    def read(self, key: str) -> bytes:
        """An object of the result bucket."""
        response = self.client.get_object(bucket_name=self.result, object_name=key)
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()

    def modified(self, key: str) -> str:
        """The Last-Modified of a source object, as erased.csv has it."""
        found = self.client.stat_object(bucket_name=self.source, object_name=key)
        return f"{found.last_modified:%Y-%m-%d %H:%M:%S}+00"

    def read_rows(self, key: str) -> list[dict[str, str]]:
        """The rows of a CSV in the result bucket."""
        return list(csv.DictReader(io.StringIO(self.read(key).decode(), newline="")))

    def clear(self) -> None:
        """Empty both buckets, of the folders too that SeaweedFS keeps when their last object is gone."""
        for bucket in (self.source, self.result):
            top = list(self.client.list_objects(bucket_name=bucket))
            has_folders = any(item.is_dir for item in top)
            inner = list(self.client.list_objects(bucket_name=bucket, recursive=True)) if has_folders else []
            for found in (inner, top):
                keys = [str(item.object_name) for item in found]
                with ThreadPoolExecutor(8) as executor:
                    list(executor.map(self.remove, keys, [bucket] * len(keys)))
