"""The functions of stack.yml as local processes."""

import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import urllib3

from ..config.credentials import Credentials
from ..config.stack import FunctionSpec, Stack
from .build import assemble
from .ports import LOOPBACK, bound_socket
from .processes import Command, Process
from .state import State

NAMESPACE = "openfaas-fn"

_HOST_SCRIPT = Path(__file__).with_name("host.py")
_INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL")
"""The only variables that a function inherits from this process."""


class Replica:
    """One process of a function, and its URL."""

    process: Process

    def __init__(self, environment: dict[str, str], directory: Path) -> None:
        self._environment, self._directory = environment, directory
        self._pool = urllib3.PoolManager(retries=False, timeout=1)
        self.port = 0

    def prepare(self) -> None:
        """Do nothing: `Function` has already assembled the files."""

    def command(self) -> Command:
        bound = bound_socket()
        self.port = bound.getsockname()[1]
        inherited = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
        local = {"PYTHONPATH": str(self._directory), "PYTHONUNBUFFERED": "1", "TMPDIR": tempfile.gettempdir()}
        return Command(
            [sys.executable, "-P", str(_HOST_SCRIPT), "--socket", str(bound.fileno())],
            environment=inherited | local | self._environment,
            directory=self._directory,
            sockets=(bound,),
        )

    def is_ready(self) -> bool:
        try:
            return self._pool.request("GET", f"{self.url}/_/health").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


class Function:
    """A function, its replicas and its number of invocations."""

    def __init__(self, spec: FunctionSpec, stack: Stack, state: State, credentials: Credentials) -> None:
        self.spec = spec
        self.environment = credentials.with_local_paths(spec.environment)
        self.created_at = datetime.now(UTC)
        self._invocations, self._lock = 0, Lock()
        for secret in spec.secrets:
            credentials.get(secret)  # creates its file
        build = state.build / spec.name
        assemble(spec.handler, stack.copies, build / "function", stack.root)
        self.replicas = [Replica(self.environment, build) for _ in range(spec.replicas)]

    def ready_replicas(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.process.ready.is_set()]

    def choose(self) -> Replica | None:
        """Return the next replica, round robin, and count an invocation; None if no replica is ready."""
        ready = self.ready_replicas()
        if not ready:
            return None
        with self._lock:
            self._invocations += 1  # also selects the next replica
            return ready[self._invocations % len(ready)]

    def status(self) -> dict[str, Any]:
        """Return OpenFaaS's FunctionStatus."""
        spec = self.spec
        return {
            "name": spec.name,
            "image": spec.image,
            "namespace": NAMESPACE,
            "envProcess": "python index.py",
            "envVars": spec.environment,
            "secrets": spec.secrets,
            "labels": spec.labels,
            "annotations": spec.annotations,
            "limits": spec.limits,
            "requests": spec.requests,
            "readOnlyRootFilesystem": spec.readonly_root_filesystem,
            "invocationCount": self._invocations,
            "replicas": len(self.replicas),
            "availableReplicas": len(self.ready_replicas()),
            "createdAt": self.created_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
