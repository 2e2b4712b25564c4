"""Access control by the API token."""

import hmac
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass

from .api import ApiError, Event
from .storage.errors import SettingError
from .storage.settings import Secret, SettingsGroup, setting

_PUBLIC_CODES = ("bad_setting", "busy", "internal_error", "schema_missing")
"""Codes of 5xx errors sent in full even to clients without access. Their messages reveal nothing about the deployment,
except that `bad_setting` quotes a setting: while the settings cannot be loaded, nobody can authenticate to read it."""


@dataclass(frozen=True, kw_only=True)
class AccessSettings(SettingsGroup):
    """Access is closed by default: unless `auth` is none, every request fails with `bad_setting` if no token is set."""

    auth: str = setting(
        "token: requests require the API token; none: everyone who can reach the function has access",
        default="token",
        choices=("token", "none"),
    )
    api_token: Secret = setting(
        "the API token that clients have to send; required with auth=token, unused with auth=none", default=Secret()
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.auth == "token" and not self.api_token:
            raise SettingError(
                "api_token is required with auth=token (or api_token_file, the path of a file); "
                "auth=none gives access to everyone who can reach the function"
            )


def has_access(event: Event, settings: AccessSettings) -> bool:
    """Whether the request has the API token (as a Bearer token or as the Basic password), or `auth` is none."""
    return settings.auth == "none" or hmac.compare_digest(_token_of(event), settings.api_token.reveal().encode())


def require_access(event: Event, settings: AccessSettings) -> None:
    """Raise ApiError 401 unless the request has access."""
    if not has_access(event, settings):
        challenge = {"WWW-Authenticate": 'Basic realm="Rollcall", Bearer'}
        raise ApiError(
            401,
            "unauthorized",
            "the API token is required: as a Bearer token, or as the Basic password",
            headers=challenge,
        )


def conceal(event: Event, error: ApiError, settings: Callable[[], AccessSettings]) -> ApiError:
    """Return the error to send. To a client without access, a 5xx error must not reveal hosts, buckets or objects.

    `settings` may raise SettingError, so it is not called for `bad_setting`.
    """
    if error.status < 500 or error.code in _PUBLIC_CODES or has_access(event, settings()):
        return error
    message = "the details are in the function's log; with the API token, they are in the response, too"
    return ApiError(error.status, error.code, message, headers=error.headers)


def _token_of(event: Event) -> bytes:
    scheme, _, value = event.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1", "replace")  # WSGI decodes headers as latin-1
    if scheme.lower() != "basic":
        return b""
    try:
        return b64decode(value, validate=True).partition(b":")[2]
    except ValueError:
        return b""
