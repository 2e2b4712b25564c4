"""The settings of process-data: who has access, both backends', and its own limits."""

from dataclasses import dataclass

from .shared.access import AccessSettings
from .shared.storage.settings import ObjectsSettings, RecordsSettings, setting


@dataclass(frozen=True, kw_only=True)
class Settings(AccessSettings, ObjectsSettings, RecordsSettings):
    workers: int = setting("segments scanned at the same time by one replica", default=6, low=1, high=32)
    fetch_threads: int = setting("objects fetched at the same time by one replica", default=64, low=1, high=256)
    batch_size: int = setting("objects fetched, checked and stored in one transaction", default=500, low=1, high=1000)
    segment_keys: int = setting("keys of the bucket that are scanned at a time", default=5000, low=1, high=100_000)
    run_deadline: int = setting("seconds after which a run stops gracefully", default=35, low=1, high=86400)
    gateway_url: str = setting(
        "the gateway, whose queue a run's continuation goes to", default="http://gateway.openfaas:8080"
    )
