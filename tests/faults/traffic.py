"""The load during faults: runs, events, uploads, erasures, queries and a consumer of /changes."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from queue import Empty, Queue
from random import Random
from threading import Event, Thread
from traceback import format_exc
from urllib.parse import quote_plus

from tests.consumer import People, example
from tests.faults.calls import Calls
from tests.faults.model import Model
from tests.faults.readers import Reader
from tests.faults.subject import Slot, Subject
from tests.faults.uploads import Uploader

_RUNNERS, _UPLOADERS, _READERS = 2, 3, 2  # threads


class Consumer:
    """A consumer of /changes that runs the code in the README."""

    def __init__(self, slots: list[Slot], random: Random) -> None:
        self._slots, self._random = slots, random
        self.people = People()
        self._after = ""
        self._globals = example()

    def follow(self) -> bool:
        """Call the README's `follow` once. Return whether it succeeded."""
        self._globals["URL"] = f"{self._random.choice(self._slots).replica.url}/changes"
        with suppress(OSError, HTTPException, ValueError):
            self._after = self._globals["follow"](self.people, self._after)
            return True
        return False


class Traffic:
    """Threads that repeat operations: the uploaders while `_uploading` is set, all others while `_calling` is set."""

    def __init__(self, subject: Subject, model: Model, calls: Calls, changing_ids: list[str], random: Random) -> None:
        self._subject, self._calls, self._random = subject, calls, random
        self._process_slots = subject.slots_of("process-data")
        query_slots, bucket = subject.slots_of("query-data"), subject.stack.bucket
        self._changed: Queue[str] = Queue()

        def new_random() -> Random:
            return Random(random.getrandbits(64))

        self._uploaders = [
            Uploader(
                model, bucket, calls, self._process_slots, changing_ids[i::_UPLOADERS], new_random(), self._changed
            )
            for i in range(_UPLOADERS)
        ]
        self.readers = [Reader(model, calls, query_slots, new_random()) for _ in range(_READERS)]
        self.consumer = Consumer(query_slots, new_random())
        self._uploading, self._calling = Event(), Event()
        self._threads: list[Thread] = []

    @property
    def completed_changes(self) -> int:
        return sum(uploader.completed for uploader in self._uploaders)

    def fill(self, user_ids: list[str], put_photo: Callable[[str], None]) -> None:
        """Upload these users for the first time, and a photo of every tenth with `put_photo`."""
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(self._uploaders[0].put, user_ids))
            list(executor.map(put_photo, user_ids[::10]))

    def start(self) -> None:
        self._uploading.set()
        self._calling.set()
        self._threads = [
            *(self._repeat(uploader.step, self._uploading, 0.02) for uploader in self._uploaders),
            *(self._repeat(self._run, self._calling, 0.3) for _ in range(_RUNNERS)),
            self._repeat(self._send_event, self._calling, 0.1),
            self._repeat(self._run_for_users, self._calling, 0.5),
            self._repeat(self._continue, self._calling, 0.05),
            *(self._repeat(reader.step, self._calling, 0.05) for reader in self.readers),
            self._repeat(self.consumer.follow, self._calling, 0.2),
        ]

    def stop(self) -> None:
        """Stop the uploaders and then the others, so that runs overlap with every upload."""
        self._uploading.clear()
        for thread in self._threads[:_UPLOADERS]:
            thread.join()
        self._calling.clear()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _repeat(self, step: Callable[[], object], enabled: Event, pause: float) -> Thread:
        random = Random(self._random.getrandbits(64))

        def loop() -> None:
            while enabled.is_set():
                try:
                    step()
                except Exception:  # noqa: BLE001 - the trial reports any error
                    self._calls.add_problem(format_exc())
                time.sleep(random.uniform(0, 2 * pause))

        thread = Thread(target=loop, daemon=True)
        thread.start()
        return thread

    def _slot(self) -> Slot:
        return self._random.choice(self._process_slots)

    def _run(self) -> None:
        self._calls.run(self._slot())

    def _continue(self) -> None:
        """Send a continuation that process-data queued."""
        with suppress(Empty):
            self._calls.run(self._slot(), f"/?{self._subject.queue.get(timeout=0.5)}")

    def _take_changed(self) -> list[str]:
        """Take up to 20 changed keys from the queue. Drop some of them, like lost events, and return the rest."""
        keys: list[str] = []
        with suppress(Empty):
            while len(keys) < 20:
                keys.append(self._changed.get_nowait())
        return [key for key in keys if self._random.random() < 0.8]

    def _send_event(self) -> None:
        if keys := self._take_changed():
            bucket = self._subject.stack.settings["source_bucket"]
            records = [{"s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}}} for key in keys]
            self._calls.run(self._slot(), "/", json.dumps({"Records": records}).encode())

    def _run_for_users(self) -> None:
        user_ids = {key.partition(".")[0] for key in self._take_changed()}
        if query := "&".join(f"user_id={user_id}" for user_id in sorted(user_ids) if user_id.isdigit()):
            self._calls.run(self._slot(), f"/?{query}")
