"""The settings of process-data: both stores' and its own limits."""

from dataclasses import dataclass

from .shared.storage.settings import ObjectsSettings, RecordsSettings, setting


@dataclass(frozen=True, kw_only=True)
class Settings(ObjectsSettings, RecordsSettings):
    fetch_threads: int = setting("objects fetched at the same time", default=8, low=1, high=64)
    batch_size: int = setting("objects fetched, checked and stored in one transaction", default=500, low=1, high=5000)
