"""What can go wrong with the stores.

    StorageError
    ├── SettingError     a setting is missing, malformed or out of range
    ├── Unavailable      the service can't be reached or did not answer in time; trying later may help
    ├── Refused          the service answered and declined: credentials, rights, no such bucket or database
    ├── ObjectMissing    there is no object of that key
    ├── ObjectTooLarge   the object has more bytes than the caller takes
    └── SchemaMissing    a table or a column is not there: migrations are pending

The exceptions of minio, urllib3 and pg8000 never leave this package.
"""

from typing import Literal

Service = Literal["s3", "postgresql"]


class StorageError(Exception):
    """A store failed in a way that is not one of the kinds below: most likely a fault of ours."""


class SettingError(StorageError):
    """Names the setting, its value (unless it is a secret) and what is allowed."""


class Unavailable(StorageError):
    def __init__(self, service: Service, message: str) -> None:
        super().__init__(message)
        self.service = service


class Refused(StorageError):
    def __init__(self, service: Service, message: str) -> None:
        super().__init__(message)
        self.service = service


class ObjectMissing(StorageError):
    def __init__(self, key: str) -> None:
        super().__init__(f"there is no object {key}")
        self.key = key


class ObjectTooLarge(StorageError):
    def __init__(self, key: str, size: int, etag: str) -> None:
        super().__init__(f"{key} has {size:,} bytes")
        self.key, self.size, self.etag = key, size, etag


class SchemaMissing(StorageError):
    pass
