"""Who may call a function: everyone, or whoever has the API token."""

import hmac
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass

from .api import ApiError, Event
from .storage.errors import SettingError
from .storage.settings import Secret, SettingsGroup, setting

_VALUE_FREE = ("bad_setting", "busy", "internal_error", "schema_missing")
"""Errors that everyone may read. While the settings are invalid nobody can be authenticated."""


@dataclass(frozen=True, kw_only=True)
class AccessSettings(SettingsGroup):
    """Closed unless `auth` says otherwise: no token by mistake is an error, not an open function."""

    auth: str = setting(
        "token: requests require the API token; none: everyone who reaches the function has access",
        default="token",
        choices=("token", "none"),
    )
    api_token: Secret = setting("API token required from clients; unused with auth=none", default=Secret())

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.auth == "token" and not self.api_token:
            raise SettingError(
                "api_token is not set: auth=token requires it (or api_token_file, its path); "
                "auth=none gives access to everyone who reaches the function"
            )


def has_access(event: Event, settings: AccessSettings) -> bool:
    """Whether the request has the token, as Bearer or as the password of Basic, or needs none."""
    return settings.auth == "none" or hmac.compare_digest(_given_token(event), settings.api_token.encode())


def require_access(event: Event, settings: AccessSettings) -> None:
    if not has_access(event, settings):
        challenge = {"WWW-Authenticate": 'Basic realm="Rollcall", Bearer'}
        raise ApiError(
            401, "unauthorized", "the API token is needed: as Bearer, or as Basic's password", headers=challenge
        )


def conceal(event: Event, error: ApiError, settings: Callable[[], AccessSettings]) -> ApiError:
    """The error as the client may see it: without access, nothing of the deployment (hosts, buckets, objects).

    The function's log has the whole message in any case.
    """
    if error.status < 500 or error.code in _VALUE_FREE or has_access(event, settings()):
        return error
    message = "details are in the function's log, and in this response if the API token is given"
    return ApiError(error.status, error.code, message, headers=error.headers)


def _given_token(event: Event) -> bytes:
    scheme, _, value = event.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1", "replace")  # as WSGI decoded it
    if scheme.lower() != "basic":
        return b""
    try:
        return b64decode(value, validate=True).partition(b":")[2]
    except ValueError:
        return b""
