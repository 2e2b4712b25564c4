"""The settings of query-data: both stores' and who may ask."""

from dataclasses import dataclass

from .shared.storage.settings import ObjectsSettings, RecordsSettings, Secret, setting


@dataclass(frozen=True, kw_only=True)
class Settings(ObjectsSettings, RecordsSettings):
    api_token: Secret = setting("the token that requests must show; open when empty", default=Secret())
    stream_deadline: int = setting(
        "seconds after which a stream of people ends, with a link to the rest", default=35, low=1, high=86400
    )
