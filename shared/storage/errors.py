"""Errors of the backends.

    StorageError         the base class; raised directly for any other failure, which is probably a bug
    ├── SettingError     a setting is missing or invalid
    ├── Unavailable      the service cannot be reached, did not respond in time or failed; a retry may help
    ├── AccessDenied     wrong credentials, a missing permission, no such bucket or database, most other 4xx responses
    ├── ObjectMissing    the object does not exist
    ├── ObjectTooLarge   the object exceeds the caller's limit
    └── SchemaMissing    a schema, table, column or function does not exist: migrations are pending

The exceptions of minio, urllib3 and pg8000 never leave this package.
"""

from typing import Literal

Service = Literal["s3", "postgresql"]


class StorageError(Exception):
    pass


class SettingError(StorageError):
    """The message names the setting, its value (unless secret) and what is expected."""


class Unavailable(StorageError):
    def __init__(self, service: Service, message: str) -> None:
        super().__init__(message)
        self.service = service


class AccessDenied(StorageError):
    def __init__(self, service: Service, message: str) -> None:
        super().__init__(message)
        self.service = service


class ObjectMissing(StorageError):
    def __init__(self, key: str) -> None:
        super().__init__(f"object {key} does not exist")


class ObjectTooLarge(StorageError):
    def __init__(self, key: str, size: int, etag: str) -> None:
        super().__init__(f"{key} has {size:,} bytes")
        self.size, self.etag = size, etag


class SchemaMissing(StorageError):
    pass
