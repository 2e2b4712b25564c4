"""What all requests of a process share: settings, connections, caches, and limits."""

from typing import TYPE_CHECKING, Any

from .cache import Cache
from .settings import Settings
from .shared.bulkhead import Bulkhead
from .shared.lazy import Lazy
from .shared.storage.records import Pool

if TYPE_CHECKING:
    from .shared.storage.objects import Objects

MAX_REQUESTS = 16
"""Requests that are worked on at the same time."""

MAX_WAITING = 48
"""Requests that wait for that."""

MAX_STREAMS = 4
"""Streams of people, and as many of large photos: a client that does not read holds one."""

MAX_HEALTH = 2
"""Requests of /healthz that are worked on, and as many that wait: they have places of their own."""

THREADS = MAX_REQUESTS + MAX_WAITING + 2 * MAX_STREAMS + 2 * MAX_HEALTH + 4
"""One for each of them, and a few that are always free to send an error."""

_CACHED = 64  # results of counts and /stats, one for each combination of filters
_CACHED_PAGES = 16  # pages for people, by what they show; some 60 KB each


class Application:
    """`objects` is the S3 client, made for the first photo."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.pool = settings, Pool(settings)
        self.cache: Cache[Any] = Cache(_CACHED)
        self.pages: Cache[bytes] = Cache(_CACHED_PAGES)
        self.requests = Bulkhead("requests", MAX_REQUESTS, waiting=MAX_WAITING)
        self.health = Bulkhead("health checks", MAX_HEALTH, waiting=MAX_HEALTH)
        self.streams = Bulkhead("streams of people", MAX_STREAMS)
        self.photos = Bulkhead("large photos", MAX_STREAMS)
        self.objects = Lazy(self._connect)

    def close(self) -> None:
        """End the idle sessions."""
        self.pool.close()

    def _connect(self) -> "Objects":
        from .shared.storage.objects import Objects  # with minio, which would cost most of the start

        return Objects(self.settings)
