"""The secrets of a deployment, one file each: for faas-cli, Kubernetes and faasd alike."""

from collections.abc import Iterable
from pathlib import Path

from .credentials import Credentials
from .errors import LocalError
from .postgres import PASSWORDS
from .seaweedfs import write_identities
from .stack import FunctionSpec


def make_secrets(directory: Path, functions: Iterable[FunctionSpec]) -> list[str]:
    """Make what the functions, the servers and the operator need and is not there yet; returns the files' names.

    What is there stays. Only SeaweedFS's identities are written anew: they follow from the keys beside them.
    """
    names = {name for function in functions for name in function.secrets}
    credentials = Credentials(directory)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = _names(directory)
        for name in (*names, *PASSWORDS.values()):
            credentials.get(name)
        write_identities(credentials)
        return sorted(_names(directory) - before)
    except OSError as error:
        raise LocalError(f"{directory} can't be used: {error.strerror}") from error


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}
