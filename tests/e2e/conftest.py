"""Fixtures: local stacks of a toy project, whose functions do what the query of each request says."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.local.cli import RUN
from infra.local.runtime.processes import Identity
from infra.local.runtime.state import State
from tests.stack import ROOT, Stack, connected

STACK_YML = """\
version: 1.0
provider:
  name: openfaas
functions:
  echo:
    lang: python3-http-debian
    handler: ./echo
    image: docker.io/rollcall/echo:1
    environment:
      exec_timeout: 2s
      write_timeout: 4s
      greeting: "${GREETING:-hello}"
      token_file: /var/openfaas/secrets/echo-token
    secrets: [echo-token]
    annotations:
      topic: cron-function
      schedule: "@every 2s"
    labels: {kind: toy}
    limits: {memory: 64Mi, cpu: 500m}
  long-timeout:
    lang: python3-http-debian
    handler: ./echo
    image: docker.io/rollcall/echo:1
    environment: {exec_timeout: 120s, write_timeout: 120s}
"""


@dataclass(frozen=True)
class ProjectStack(Stack):
    """The local stack of a project outside this repository."""

    project: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", RUN, str(self.project), *arguments, "--state", str(self.state)]

    @contextmanager
    def up(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Run the stack in the foreground, as in a terminal, and wait until it is ready."""
        output = self.project / "up.txt"
        with (
            output.open("w") as file,
            subprocess.Popen(
                self.command("up", "--port", "0", "--no-sample"), cwd=ROOT, stdout=file, stderr=file, process_group=0
            ) as up,
        ):
            try:
                self.wait_until(lambda: up.poll() is not None or self.ready_pid() == up.pid)
                assert up.poll() is None, output.read_text()
                yield up
            finally:
                up.terminate()

    def sql_uncached(self, statement: str) -> list[list[Any]]:
        """Run a statement as the operator, with the stack's current settings instead of the cached ones."""
        with connected(self.env()) as connection:
            return connection.run(statement) or []

    def ready_pid(self) -> int | None:
        """Return the supervisor's pid if the stack is ready."""
        document = self.state_file()
        return document["pid"] if document.get("ready") else None

    def keys(self) -> list[str]:
        """Return the keys at the top level of the source bucket."""
        objects = self.bucket.client.list_objects(bucket_name=self.bucket.source)
        return [str(item.object_name) for item in objects]

    def log(self) -> str:
        """Return the log of the function echo."""
        return self.cli("logs", "echo").stdout

    def state_file(self) -> dict[str, Any]:
        return State(self.state).read_state_file()

    def identity(self, name: str) -> Identity:
        component = self.state_file()["components"][name]
        return Identity(component["pid"], component["started"])

    def edit(self, old: str, new: str) -> None:
        """Replace text in stack.yml."""
        path = self.project / "stack.yml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


def make_toy(directory: Path) -> ProjectStack:
    (directory / "echo").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("echo.py"), directory / "echo/handler.py")
    (directory / "stack.yml").write_text(STACK_YML)
    return ProjectStack(directory / "state", directory)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectStack]:
    """A running toy project. Tests share it, and must leave it as they found it, except for lines in its logs."""
    toy = make_toy(tmp_path_factory.mktemp("toy"))
    try:
        toy.cli("up", "--detach", "--port", "0", "--no-sample")
        yield toy
    finally:
        toy.remove()


@pytest.fixture
def new_toy(tmp_path: Path) -> Iterator[ProjectStack]:
    """A toy project for a single test, not yet running."""
    toy = make_toy(tmp_path / "new")
    try:
        yield toy
    finally:
        toy.remove()
