"""The secrets of a deployment, one file each."""

from collections.abc import Iterable
from pathlib import Path

from ..errors import LocalError
from .accounts import PASSWORD_SECRETS, write_identities
from .credentials import Credentials
from .stack import FunctionSpec


def make_secrets(directory: Path, functions: Iterable[FunctionSpec]) -> list[str]:
    """Generate the missing secrets of the functions, the servers and the operator; return the names of the new files.

    Existing secrets are kept. SeaweedFS's identities are always rewritten, as they are derived from the keys.
    """
    names = {name for function in functions for name in function.secrets}
    credentials = Credentials(directory)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = _names(directory)
        for name in (*names, *PASSWORD_SECRETS.values()):
            credentials.get(name)
        write_identities(credentials)
        return sorted(_names(directory) - before)
    except OSError as error:
        raise LocalError(f"{directory} cannot be used: {error.strerror}") from error


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}
