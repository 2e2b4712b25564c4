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
"""Requests that are processed at the same time."""

MAX_WAITING = 48
"""Requests that wait to be processed, and as many for photos."""

MAX_STREAMS = 4
"""Streams of users, and as many of large photos. A client that stops reading one keeps its slot."""

MAX_PHOTOS = 6
"""Requests for photos that are processed at the same time, in slots of their own: a silent S3 delays no others."""

MAX_HEALTH = 2
"""Requests for /healthz that are processed at the same time, and as many that wait: they have their own slots."""

THREADS = MAX_REQUESTS + MAX_PHOTOS + 2 * MAX_WAITING + 2 * MAX_STREAMS + 2 * MAX_HEALTH + 4
"""One for each of these, and 4 that are always free to send errors."""

_MAX_RESULTS = 64  # counts and statistics, one for each combination of filters
_MAX_PAGES = 16  # web pages of about 60 KB


class Application:
    """The shared state. `objects` is the S3 client, created for the first photo."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.pool = settings, Pool(settings)
        self.cache: Cache[Any] = Cache(_MAX_RESULTS)
        self.pages: Cache[bytes] = Cache(_MAX_PAGES)
        self.requests = Bulkhead("requests", MAX_REQUESTS, waiting=MAX_WAITING)
        self.health = Bulkhead("health checks", MAX_HEALTH, waiting=MAX_HEALTH)
        self.streams = Bulkhead("streams of users", MAX_STREAMS)
        self.photos = Bulkhead("photos", MAX_PHOTOS, waiting=MAX_WAITING)
        self.large_photos = Bulkhead("large photos", MAX_STREAMS)
        self.objects = Lazy(self._connect)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow a connection for a request, whose statements together get the time limit of one statement."""
        seconds = self.settings.postgres_timeout + TIMEOUT_MARGIN
        with self.pool.connection() as connection, connection.time_limit(seconds):
            yield connection

    def close(self) -> None:
        """Close the idle connections."""
        self.pool.close()

    def _connect(self) -> "Objects":
        from .shared.storage.objects import Objects  # imports minio, which would take most of the start-up time

        return Objects(self.settings, connections=MAX_PHOTOS + MAX_STREAMS)
