"""The settings of query-data: access, backends, limits."""

from dataclasses import dataclass

from .shared.access import AccessSettings
from .shared.storage.settings import PostgresSettings, S3Settings, invalid_setting, setting


@dataclass(frozen=True, kw_only=True)
class Settings(AccessSettings, S3Settings, PostgresSettings):
    stream_deadline: int = setting(
        "seconds after which a stream of users ends, with a link to the rest", default=35, minimum=1, maximum=86400
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stream_deadline >= self.postgres_timeout:
            expected = f"less than postgres_timeout={self.postgres_timeout}, after which PostgreSQL cancels a stream"
            raise invalid_setting("stream_deadline", str(self.stream_deadline), expected)
