"""The functions of stack.yml as they run here."""

import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import urllib3

from .build import assemble
from .credentials import Credentials
from .ports import LOOPBACK, free_ports
from .processes import Command, Process
from .stack import FunctionSpec, Stack
from .state import State

NAMESPACE = "openfaas-fn"

_HOST = Path(__file__).with_name("host.py")
_BASICS = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
"""What a function is given of the caller's environment; a container has these too."""


class Function:
    """One function: its process, where it answers, and how often it was invoked."""

    process: Process

    def __init__(self, spec: FunctionSpec, stack: Stack, state: State, credentials: Credentials) -> None:
        self.spec = spec
        self.environment = credentials.mounted(spec.environment)
        self.timeout = spec.exec_timeout
        self.created_at = datetime.now(UTC)
        self.port = 0
        self._build = state.build / spec.name
        self._invocations, self._lock = 0, Lock()
        self._pool = urllib3.PoolManager(retries=False, timeout=1)
        self._credentials = credentials
        self._stack = stack

    def prepare(self) -> None:
        for secret in self.spec.secrets:
            self._credentials.get(secret)
        assemble(self.spec.handler, self._stack.copies, self._build / "function", self._stack.root)

    def command(self) -> Command:
        (self.port,) = free_ports(1)
        basics = {name: os.environ[name] for name in _BASICS if name in os.environ}
        here = {"PYTHONPATH": str(self._build), "PYTHONUNBUFFERED": "1", "TMPDIR": tempfile.gettempdir()}
        return Command(
            [sys.executable, "-P", str(_HOST), "--port", str(self.port)],
            environment=basics | here | self.environment,
            directory=self._build,
        )

    def is_ready(self) -> bool:
        try:
            return self._pool.request("GET", f"{self.url}/_/health").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def count_invocation(self) -> None:
        with self._lock:
            self._invocations += 1

    def status(self) -> dict[str, Any]:
        """OpenFaaS's FunctionStatus."""
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
            "replicas": 1,
            "availableReplicas": int(self.process.ready.is_set()),
            "createdAt": self.created_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
