"""Secrets: random values, one per file, as OpenFaaS mounts them. Only the owner can read the files."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

MOUNT = "/var/openfaas/secrets/"
"""Where OpenFaaS mounts a function's secrets."""


class Credentials:
    """The secrets in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, name: str) -> str:
        """Return the secret's value. It is generated on first use."""
        path = self.directory / name
        if not path.exists():
            self.write(name, secrets.token_hex(20))
        return path.read_text(encoding="utf-8").strip()

    def write(self, name: str, text: str) -> Path:
        """Atomically write a file that only its owner can read; return its path."""
        path, partial = self.directory / name, self.directory / f".{name}.partial"
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return partial.replace(path)

    def with_local_paths(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment with paths to mounted secrets replaced by paths into this directory."""
        local = f"{self.directory}/"
        return {
            name: local + value.removeprefix(MOUNT) if value.startswith(MOUNT) else value
            for name, value in environment.items()
        }


def resolve_files(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with each `x_file` that is set replaced by `x`, whose value is the file's content."""
    values = {}
    for name, value in environment.items():
        if name.endswith("_file") and value:
            values[name.removesuffix("_file")] = Path(value).read_text(encoding="utf-8").strip()
        else:
            values[name] = value
    return values
