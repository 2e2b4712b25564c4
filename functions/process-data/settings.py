"""The settings of process-data: access, backends, limits."""

from dataclasses import dataclass

from .shared.access import AccessSettings
from .shared.storage.settings import PostgresSettings, S3Settings, check_bucket, setting


@dataclass(frozen=True, kw_only=True)
class Settings(AccessSettings, S3Settings, PostgresSettings):
    result_bucket: str = setting("bucket of output.csv, rejected.csv and erased.csv", default="res")
    workers: int = setting(
        "segments that a replica scans at once when a single run is in progress; each further concurrent run adds one",
        default=6,
        minimum=1,
        maximum=32,
    )
    fetch_threads: int = setting("objects fetched at the same time by one replica", default=64, minimum=1, maximum=256)
    batch_size: int = setting("objects fetched, checked and stored together", default=500, minimum=1, maximum=1000)
    segment_keys: int = setting("keys in a segment of the bucket", default=5000, minimum=1, maximum=100_000)
    run_deadline: int = setting("seconds after which a run stops gracefully", default=35, minimum=1, maximum=86400)
    gateway_url: str = setting(
        "URL of the gateway, which queues continuations of runs", default="http://gateway.openfaas:8080"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bucket("result_bucket", self.result_bucket)
