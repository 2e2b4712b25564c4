"""The settings of query-data: access, backends, limits."""

from dataclasses import dataclass

from .shared.access import AccessSettings
from .shared.storage.settings import PostgresSettings, S3Settings, setting


@dataclass(frozen=True, kw_only=True)
class Settings(AccessSettings, S3Settings, PostgresSettings):
    stream_deadline: int = setting(
        "seconds after which a stream of users ends, with a link to the rest", default=35, minimum=1, maximum=86400
    )
