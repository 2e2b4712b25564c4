"""The settings of query-data: who has access, both backends', and its own limits."""

from dataclasses import dataclass

from .shared.access import AccessSettings
from .shared.storage.settings import ObjectsSettings, RecordsSettings, setting


@dataclass(frozen=True, kw_only=True)
class Settings(AccessSettings, ObjectsSettings, RecordsSettings):
    stream_deadline: int = setting(
        "seconds after which a stream of people ends, with a link to the rest", default=35, low=1, high=86400
    )
