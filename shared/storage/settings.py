"""Settings: frozen, typed, read once from a mapping of names to texts such as os.environ.

A settings class is a frozen dataclass whose fields are made by `setting`; a field's name is the
variable's name. Any setting `x` may be given as `x_file` instead: the path of a file whose stripped
content is the value, which is how OpenFaaS hands over secrets.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from .errors import SettingError

T = TypeVar("T")


class Secret(str):
    """A text that doesn't show itself: its repr is masked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('***')"


def setting(
    meaning: str,
    *,
    default: Any = MISSING,
    low: int | None = None,
    high: int | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A field of a settings class: required unless it has a default.

    `low` and `high` bound an integer, both ends included; `choices` lists a text's allowed values.
    """
    metadata = {"meaning": meaning, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=metadata)


def load(settings: type[T], environ: Mapping[str, str]) -> T:
    """Read a settings class from `environ`; SettingError says which variable is wrong and what is allowed."""
    types = get_type_hints(settings)
    values = {}
    for one in fields(settings):  # type: ignore[arg-type]
        text = _text(one.name, environ)
        if text is not None:
            values[one.name] = _cast(one, types[one.name], text)
        elif one.default is MISSING:
            raise SettingError(f"{one.name} is not set: {one.metadata['meaning']} (or {one.name}_file, its path)")
    return settings(**values)


def _text(name: str, environ: Mapping[str, str]) -> str | None:
    """The setting's text from the variable or from the file it names; None when neither has one."""
    text, path = environ.get(name, "").strip(), environ.get(f"{name}_file", "").strip()
    if text and path:
        raise SettingError(f"{name} and {name}_file are both set: give one of them")
    if not path:
        return text or None
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{name}_file={path!r} can't be read: {error}") from error
    if not text:
        raise SettingError(f"{name}_file={path!r} is empty: {name} must not be")
    return text


def _cast(one: Field[Any], kind: type, text: str) -> object:
    low, high, choices = one.metadata["low"], one.metadata["high"], one.metadata["choices"]
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise SettingError(f"{one.name}={text!r} is not allowed: true or false")
        return text.lower() == "true"
    if kind is int:
        if not (re.fullmatch("[0-9]{1,9}", text) and low <= int(text) <= high):
            raise SettingError(f"{one.name}={text!r} is not allowed: a whole number from {low} to {high}")
        return int(text)
    if choices is not None and text not in choices:
        raise SettingError(f"{one.name}={text!r} is not allowed: one of {', '.join(choices)}")
    return kind(text)


_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, kw_only=True)
class SettingsGroup:
    """Some settings that belong together; a function's settings inherit from several groups."""

    def __post_init__(self) -> None:
        """Check what `setting` can't: a group overrides this, and calls the next group's."""


@dataclass(frozen=True, kw_only=True)
class ObjectsSettings(SettingsGroup):
    """The S3 service and its two buckets."""

    s3_endpoint: str = setting("host:port of any S3 service, without a scheme")
    s3_region: str = setting("region of the buckets", default="us-east-1")
    s3_secure: bool = setting("true for HTTPS, false for HTTP", default=True)
    s3_ca_file: str = setting("PEM file of the only authorities to trust; the public ones without it", default="")
    s3_access_key: Secret = setting("access key")
    s3_secret_key: Secret = setting("secret key")
    s3_timeout: int = setting("seconds to wait for an answer from S3", default=10, low=1, high=300)
    source_bucket: str = setting("bucket that people drop files into", default="src")
    result_bucket: str = setting("bucket that receives output.csv", default="res")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _ENDPOINT.fullmatch(self.s3_endpoint):
            shown = "***" if "@" in self.s3_endpoint else repr(self.s3_endpoint)  # it may hold a password
            raise SettingError(f"s3_endpoint={shown} is not allowed: host:port alone; s3_secure chooses HTTPS or HTTP")
        if self.s3_ca_file and not self.s3_secure:
            raise SettingError("s3_ca_file is set although s3_secure=false uses no TLS: expected one or the other")
        for name in ("source_bucket", "result_bucket"):
            if not _BUCKET.fullmatch(bucket := getattr(self, name)):
                raise SettingError(
                    f"{name}={bucket!r} is not allowed: 3 to 63 lower-case letters, digits, dots and hyphens"
                )


@dataclass(frozen=True, kw_only=True)
class RecordsSettings(SettingsGroup):
    """The PostgreSQL database."""

    postgres_host: str = setting("host name or address of PostgreSQL")
    postgres_port: int = setting("port of PostgreSQL", default=5432, low=1, high=65535)
    postgres_database: str = setting("database", default="rollcall")
    postgres_user: str = setting("role to log in as")
    postgres_password: Secret = setting("the role's password")
    postgres_sslmode: str = setting(
        "verify-full: TLS, the certificate is valid and the host's; "
        "require: TLS, with postgres_ca_file also a valid certificate; disable: no TLS",
        default="verify-full",
        choices=("disable", "require", "verify-full"),
    )
    postgres_ca_file: str = setting("PEM file of the only authorities to trust; the system's without it", default="")
    postgres_timeout: int = setting("seconds a statement may take", default=40, low=1, high=3600)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.postgres_ca_file and self.postgres_sslmode == "disable":
            raise SettingError(
                "postgres_ca_file is set although postgres_sslmode=disable uses no TLS: expected one or the other"
            )
