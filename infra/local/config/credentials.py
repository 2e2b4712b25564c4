"""Secrets: random texts in files that only their owner can read, one a file, as OpenFaaS mounts them."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

MOUNT = "/var/openfaas/secrets/"
"""Where a function finds its secrets in production."""


class Credentials:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, name: str) -> str:
        """The secret's value, made when there is none yet."""
        path = self.directory / name
        if not path.exists():
            self.write(name, secrets.token_hex(20))
        return path.read_text(encoding="utf-8").strip()

    def write(self, name: str, text: str) -> Path:
        """Write a file that only its owner can read, whole or not at all."""
        path, partial = self.directory / name, self.directory / f".{name}.partial"
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return partial.replace(path)

    def mounted(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment with this directory in the mount's place."""
        there = f"{self.directory}/"
        return {
            name: there + text.removeprefix(MOUNT) if text.startswith(MOUNT) else text
            for name, text in environment.items()
        }


def resolved(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with each `x_file` replaced by x and what the file holds."""
    values = {}
    for name, text in environment.items():
        if name.endswith("_file") and text:
            values[name.removesuffix("_file")] = Path(text).read_text(encoding="utf-8").strip()
        else:
            values[name] = text
    return values
