"""Settings: frozen, typed, read once from a mapping of strings such as os.environ.

A settings class is a frozen dataclass whose fields are defined by `setting`; a field's name is the variable's name.
Every setting `x` can be set by `x_file` instead, the path of a file whose stripped content is the value: that is how
OpenFaaS provides secrets. (`s3_ca_file` and `postgres_ca_file` are settings themselves; their values are paths.)
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

from .errors import SettingError

T = TypeVar("T")


class Secret:
    """A string that only `reveal` returns. It is not a `str`, so it cannot be printed or serialised by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be serialised")


def setting(
    description: str,
    *,
    default: Any = MISSING,
    minimum: int | None = None,
    maximum: int | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A field of a settings class: required unless it has a default.

    An integer needs `minimum` and `maximum`, both inclusive. `choices` lists the valid strings.
    """
    metadata = {"description": description, "minimum": minimum, "maximum": maximum, "choices": choices}
    return dataclass_field(default=default, metadata=metadata)


def load(settings_class: type[T], environ: Mapping[str, str]) -> T:
    """Read a settings class from `environ`. Raises SettingError if a setting is missing or invalid."""
    types = get_type_hints(settings_class)
    values = {}
    for field in fields(settings_class):  # type: ignore[arg-type]
        text = _text(field.name, environ)
        if text is not None:
            values[field.name] = _cast(field, types[field.name], text)
        elif field.default is MISSING:
            description = field.metadata["description"]
            raise SettingError(f"{field.name} is required: {description} (or {field.name}_file, the path of a file)")
    return settings_class(**values)


def _text(name: str, environ: Mapping[str, str]) -> str | None:
    """The setting's string, from its variable or its file; None if it is not set."""
    text, path = environ.get(name, "").strip(), environ.get(f"{name}_file", "").strip()
    if text and path:
        raise SettingError(f"{name} and {name}_file are both set: set one, not both")
    if not path:
        return text or None
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{name}_file={path!r} cannot be read: {error}") from error
    if not text:
        raise SettingError(f"{name}_file={path!r} is empty: expected the value of {name}")
    return text


def _cast(field: Field[Any], kind: type, text: str) -> object:
    minimum, maximum, choices = (field.metadata[name] for name in ("minimum", "maximum", "choices"))
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise invalid_setting(field.name, text, "true or false")
        return text.lower() == "true"
    if kind is int:
        if not (re.fullmatch("[0-9]{1,9}", text) and minimum <= int(text) <= maximum):
            raise invalid_setting(field.name, text, f"a whole number from {minimum} to {maximum}")
        return int(text)
    if choices is not None and text not in choices:
        raise invalid_setting(field.name, text, f"one of {', '.join(choices)}")
    return kind(text)


def invalid_setting(name: str, text: str, expected: str) -> SettingError:
    return SettingError(f"invalid {name}={text!r}: expected {expected}")


_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def check_bucket(name: str, bucket: str) -> None:
    """Raise SettingError unless `bucket`, the value of the setting `name`, is a valid bucket name."""
    if not _BUCKET.fullmatch(bucket):
        raise invalid_setting(
            name, bucket, "3 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit first and last"
        )


@dataclass(frozen=True, kw_only=True)
class SettingsGroup:
    """The base of groups of settings; a function's settings class inherits from several groups."""

    def __post_init__(self) -> None:
        """Check what `setting` cannot. An override must call `super().__post_init__()`, for the other groups."""


_MAX_S3_TIMEOUT = 19
"""In seconds. A request may take three attempts, so it may wait 3 × 19 = 57 s for responses. The database session of an
export is idle meanwhile, and PostgreSQL ends it after 60 s. Slow connects or two slow requests in a row can take
longer: then the export fails, and a later run repeats it."""


@dataclass(frozen=True, kw_only=True)
class S3Settings(SettingsGroup):
    """The S3 service and the source bucket."""

    s3_endpoint: str = setting("host or host:port of any S3 service, without a scheme")
    s3_region: str = setting("region of the buckets", default="us-east-1")
    s3_secure: bool = setting("true for HTTPS, false for HTTP", default=True)
    s3_ca_file: str = setting("PEM file of certificate authorities to trust instead of those of certifi", default="")
    s3_access_key: Secret = setting("access key")
    s3_secret_key: Secret = setting("secret key")
    s3_timeout: int = setting("seconds to wait for a response from S3", default=10, minimum=1, maximum=_MAX_S3_TIMEOUT)
    source_bucket: str = setting("bucket of the CSVs and photos", default="src")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _ENDPOINT.fullmatch(self.s3_endpoint):
            endpoint = "***" if "@" in self.s3_endpoint else self.s3_endpoint  # it may contain a password
            raise invalid_setting("s3_endpoint", endpoint, "host or host:port alone; s3_secure chooses HTTPS or HTTP")
        if self.s3_ca_file and not self.s3_secure:
            raise SettingError("s3_ca_file is set, but s3_secure=false disables TLS: expected only one of them")
        check_bucket("source_bucket", self.source_bucket)


@dataclass(frozen=True, kw_only=True)
class PostgresSettings(SettingsGroup):
    """The PostgreSQL database."""

    postgres_host: str = setting("host name or address of PostgreSQL")
    postgres_port: int = setting("port of PostgreSQL", default=5432, minimum=1, maximum=65535)
    postgres_database: str = setting("database", default="rollcall")
    postgres_user: str = setting("role to log in as")
    postgres_password: Secret = setting("the role's password")
    postgres_sslmode: str = setting(
        "verify-full: TLS with a certificate that is valid for the host; "
        "require: TLS, with a valid certificate if postgres_ca_file is set; disable: no TLS",
        default="verify-full",
        choices=("disable", "require", "verify-full"),
    )
    postgres_ca_file: str = setting("PEM file of certificate authorities to trust instead of the system's", default="")
    postgres_timeout: int = setting("seconds that a statement may take", default=40, minimum=1, maximum=3600)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.postgres_ca_file and self.postgres_sslmode == "disable":
            raise SettingError(
                "postgres_ca_file is set, but postgres_sslmode=disable disables TLS: expected only one of them"
            )
