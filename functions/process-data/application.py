"""State that all requests of a process share: settings, clients, threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import BoundedSemaphore, Event, Lock

from .settings import Settings
from .shared.bulkhead import Bulkhead
from .shared.storage.objects import Objects
from .shared.storage.pool import Pool

MAX_REQUESTS = 8
"""The maximum number of concurrent requests with access (see `has_access`)."""

MAX_ANONYMOUS = 2
"""The maximum number of concurrent requests without access. They are full runs, so more of them would only share the
same work."""


class Application:
    """The shared state. `stopping` is set by SIGTERM.

    `helpers` limits the helper threads of all runs together, as each thread has a connection to PostgreSQL. `listings`
    is separate from `fetches`, so that listing a segment never waits for fetches.
    """

    def __init__(self, settings: Settings, stopping: Event) -> None:
        self.settings, self.stopping = settings, stopping
        self._pending: dict[object, int] = {}  # number of objects to fetch, by scanner
        self._lock = Lock()
        self.requests = Bulkhead("requests", MAX_REQUESTS)
        self.anonymous = Bulkhead("requests without the API token", MAX_ANONYMOUS)
        self.objects = Objects(settings, connections=settings.fetch_threads + settings.workers)
        self.pool = Pool(settings)
        self.helpers = BoundedSemaphore(settings.workers - 1)
        self.fetches = ThreadPoolExecutor(settings.fetch_threads, thread_name_prefix="fetch")
        self.listings = ThreadPoolExecutor(settings.workers + 4, thread_name_prefix="list")

    @contextmanager
    def fetching(self, scanner: object, count: int) -> Iterator[None]:
        """Register the number of objects that a scanner fetches, or is expected to fetch, during the body."""
        before = self._set_pending(scanner, count)
        try:
            yield
        finally:
            self._set_pending(scanner, before)

    def _set_pending(self, scanner: object, count: int) -> int:
        with self._lock:
            before = self._pending.pop(scanner, 0)
            if count:
                self._pending[scanner] = count
            return before

    @property
    def is_busy(self) -> bool:
        """Whether several scanners together keep all fetch threads busy.

        A single scanner does not: the threads are idle while it lists.
        """
        with self._lock:
            return len(self._pending) > 1 and sum(self._pending.values()) >= self.settings.fetch_threads

    def is_idle_except(self, scanner: object) -> bool:
        """Whether no other scanner is fetching, or expected to fetch."""
        with self._lock:
            return not self._pending.keys() - {scanner}

    def close(self) -> None:
        """Close the idle connections and end the threads."""
        self.pool.close()
        self.fetches.shutdown(cancel_futures=True)
        self.listings.shutdown(cancel_futures=True)
