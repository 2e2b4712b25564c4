"""The settings of process-data: both stores' and its own limits."""

from dataclasses import dataclass

from .shared.storage.settings import ObjectsSettings, RecordsSettings, Secret, setting


@dataclass(frozen=True, kw_only=True)
class Settings(ObjectsSettings, RecordsSettings):
    fetch_threads: int = setting("objects fetched at the same time", default=8, low=1, high=64)
    batch_size: int = setting("objects fetched, checked and stored in one transaction", default=500, low=1, high=1000)
    run_deadline: int = setting("seconds after which a run ends in good order", default=35, low=1, high=86400)
    gateway_url: str = setting("the gateway, for fan_out", default="http://gateway.openfaas:8080")
    api_token: Secret = setting("the token that requests must show; open when empty", default=Secret())
