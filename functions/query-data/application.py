"""What all requests of a process share: settings, connections, caches, and limits."""

from typing import TYPE_CHECKING, Any

from .bulkhead import Bulkhead
from .cache import Cache
from .settings import Settings
from .shared.lazy import Lazy
from .shared.storage.records import Pool

if TYPE_CHECKING:
    from .shared.storage.objects import Objects

THREADS = 16
"""Requests that are worked on at the same time, each with a connection to PostgreSQL at most. More of them wait, and
of-watchdog returns 429 to those beyond stack.yml's `max_inflight`."""

MAX_STREAMS = 4
"""Threads that may stream people, and as many that may stream large photos: a client that does not read holds one."""

_CACHED = 64  # results of counts and /stats, one for each combination of filters


class Application:
    """`objects` is the S3 client, made for the first photo."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.pool = settings, Pool(settings)
        self.cache: Cache[Any] = Cache(_CACHED)
        self.streams, self.photos = Bulkhead(MAX_STREAMS), Bulkhead(MAX_STREAMS)
        self.objects = Lazy(self._connect)

    def close(self) -> None:
        """End the idle sessions."""
        self.pool.close()

    def _connect(self) -> "Objects":
        from .shared.storage.objects import Objects  # with minio, which would cost most of the start

        return Objects(self.settings)
