"""State that all requests of a process share: settings, connections, caches, limits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .cache import Cache
from .settings import Settings
from .shared.bulkhead import Bulkhead
from .shared.lazy import Lazy
from .shared.storage.connection import TIMEOUT_MARGIN, Connection
from .shared.storage.pool import Pool

if TYPE_CHECKING:
    from .shared.storage.objects import Objects

MAX_REQUESTS = 16
"""The maximum number of concurrent requests, not counting those for photos and /healthz, and streams being sent."""

MAX_WAITING = 48
"""The maximum number of requests that wait to be processed. As many requests for photos may wait as well."""

MAX_STREAMS = 4
"""The maximum number of streams of users being sent, and of large photos (over 1 MiB). A client that stops reading
keeps its slot until the watchdog's `exec_timeout`."""

MAX_PHOTOS = 6
"""The maximum number of concurrent requests for photos, not counting large photos being sent. If S3 does not respond,
they delay no other requests."""

MAX_HEALTH = 2
"""The maximum number of concurrent requests for /healthz. As many may wait."""

THREADS = MAX_REQUESTS + MAX_PHOTOS + 2 * MAX_WAITING + 2 * MAX_STREAMS + 2 * MAX_HEALTH + 4
"""One for each request within these limits, and 4 that reject further requests."""

_MAX_RESULTS = 64  # cached counts and statistics
_MAX_PAGES = 16  # cached web pages: about 60 KB each by default, over 500 KB with limit=1000


class Application:
    """The shared state. `objects` is the S3 client, created when the first photo is requested."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.pool = settings, Pool(settings)
        self.cache: Cache[Any] = Cache(_MAX_RESULTS)
        self.pages: Cache[bytes] = Cache(_MAX_PAGES)
        self.requests = Bulkhead("requests", MAX_REQUESTS, max_waiting=MAX_WAITING)
        self.health = Bulkhead("health checks", MAX_HEALTH, max_waiting=MAX_HEALTH)
        self.streams = Bulkhead("streams of users", MAX_STREAMS)
        self.photos = Bulkhead("photos", MAX_PHOTOS, max_waiting=MAX_WAITING)
        self.large_photos = Bulkhead("large photos", MAX_STREAMS)
        self.objects = Lazy(self._create_s3_client)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow a connection. All statements of the body share the time limit of a single statement."""
        seconds = self.settings.postgres_timeout + TIMEOUT_MARGIN
        with self.pool.connection() as connection, connection.time_limit(seconds):
            yield connection

    def close(self) -> None:
        """Close the idle connections."""
        self.pool.close()

    def _create_s3_client(self) -> "Objects":
        from .shared.storage.objects import Objects  # imports minio, which would slow down the start

        return Objects(self.settings, connections=MAX_PHOTOS + MAX_STREAMS)
