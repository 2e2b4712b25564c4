"""TLS to the backends: trusted authorities, and short error texts."""

import re
import ssl

from .errors import SettingError


def make_context(setting: str, ca_file: str, default: str | None = None) -> ssl.SSLContext:
    """A context that checks the certificate's chain and host name.

    It trusts the authorities in the PEM file `ca_file`, the value of `setting`; if that is empty, those in the file
    `default`, else the system's. Raises SettingError if the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca_file or default)
    except OSError as error:
        reason = error.strerror if error.filename or not isinstance(error, ssl.SSLError) else describe(error)
        raise SettingError(
            f"{setting}={ca_file!r} cannot be used: {reason}; expected a file of PEM certificates"
        ) from error


def describe(error: BaseException) -> str:
    """An error's text, without the positions in OpenSSL's and Python's source that an SSLError has."""
    return re.sub(r"^\[[A-Z0-9_]+(: \w+)?\] | \(_ssl\.c:\d+\)$", "", str(error))
