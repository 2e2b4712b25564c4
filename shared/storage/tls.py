"""TLS contexts for connections to the backends, and short texts of TLS errors."""

import re
import ssl

from .errors import SettingError


def make_context(setting: str, ca_file: str, default: str | None = None) -> ssl.SSLContext:
    """A context that verifies the certificate's chain and host name.

    It trusts the CAs in the PEM file `ca_file`, the value of the setting named `setting`. If that is empty, it
    trusts those in the file `default`; if that is None, the system's. Raises SettingError if the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca_file or default)
    except OSError as error:
        reason = error.strerror if error.filename or not isinstance(error, ssl.SSLError) else describe(error)
        file = f"{setting}={ca_file!r}" if ca_file else f"the default of {setting}, {default!r},"
        raise SettingError(f"{file} cannot be used: {reason}; expected a file of PEM certificates") from error


def describe(error: BaseException) -> str:
    """The error's text, without the code in brackets and the position in `_ssl.c` that an SSLError has."""
    return re.sub(r"^\[[A-Z0-9_]+(: \w+)?\] | \(_ssl\.c:\d+\)$", "", str(error))
