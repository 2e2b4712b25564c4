"""TLS to the backends: which authorities are trusted, and errors in a few words."""

import re
import ssl

from .errors import SettingError


def make_context(setting: str, ca_file: str, default: str | None = None) -> ssl.SSLContext:
    """A context that checks chain and name.

    It trusts the authorities in the PEM file `ca_file` alone, which `setting` names; without one those of the file
    `default`, or the system's.
    """
    try:
        return ssl.create_default_context(cafile=ca_file or default)
    except OSError as error:
        reason = error.strerror if error.filename or not isinstance(error, ssl.SSLError) else describe(error)
        raise SettingError(
            f"{setting}={ca_file!r} can't be used: {reason}; expected a file of PEM certificates"
        ) from error


def describe(error: BaseException) -> str:
    """An error's text, without the places in OpenSSL's and Python's code that an SSLError has."""
    return re.sub(r"^\[[A-Z0-9_]+(: \w+)?\] | \(_ssl\.c:\d+\)$", "", str(error))
