"""Uploaders: each uploads, removes and erases its own users, and retries what fails."""

import time
from collections.abc import Callable
from queue import Queue
from random import Random
from urllib.parse import quote

from minio.error import MinioException
from urllib3.exceptions import HTTPError

from tests.faults.calls import Calls
from tests.faults.model import PHOTO_EXTENSIONS, Content, Model
from tests.faults.subject import RECOVERY, Slot
from tests.samples import samples
from tests.stack import Bucket

LATE_EFFECT_SECONDS = 3.0  # how long an abandoned request may still take effect
RETRY_SECONDS = 4 * RECOVERY  # after which an unconfirmed change is a problem: one fault may follow another
_MISNAMED_ENDINGS = ("x.csv", "a b+c%2F.csv", "1.x.csv", "0x.csv")

BAD = [
    sample
    for sample in samples("bad")
    if sample.key is None and len(sample.body) <= 65536 and sample.expected["code"] != "in_the_future"
]
"""Small samples that are rejected for any user, whatever the clock says."""


class Uploader:
    """Changes `user_ids`, which no other uploader changes. `changed` receives the changed keys, like S3's events."""

    def __init__(
        self, model: Model, bucket: Bucket, calls: Calls, slots: list[Slot], user_ids: list[str], random: Random,
        changed: "Queue[str]",
    ) -> None:  # fmt: skip
        self._model, self._bucket, self._calls, self._slots = model, bucket, calls, slots
        self._user_ids, self._random, self._changed = user_ids, random, changed
        self._not_before = dict.fromkeys(user_ids, 0.0)  # when the next operation may begin, on the monotonic clock
        self._operations: list[tuple[int, Callable[[str], None]]] = [
            (8, self.put),
            (2, self._put_again),
            (3, self._put_bad),
            (2, self._remove),
            (3, self._put_photo),
            (2, self._remove_photo),
            (2, self._erase),
            (1, self._misname),
        ]
        self.completed = 0

    def step(self) -> None:
        """Perform a random operation on a random user."""
        user_id = self._random.choice(self._user_ids)
        if time.monotonic() < self._not_before[user_id]:
            return
        [(_, operation)] = self._random.choices(self._operations, [weight for weight, _ in self._operations])
        operation(user_id)

    def put(self, user_id: str) -> None:
        person = self._model.new_person(user_id)
        self._put_csv(user_id, person, "first_name,last_name,birthts\n{},{},{}\n".format(*person).encode())

    def _put_again(self, user_id: str) -> None:
        """Upload an earlier version again, if there is one."""
        people = [content for content in self._model.users[user_id].contents.values() if not isinstance(content, str)]
        if people:
            person = self._random.choice(people)
            self._put_csv(user_id, person, "first_name,last_name,birthts\n{},{},{}\n".format(*person).encode())

    def _put_bad(self, user_id: str) -> None:
        sample = self._random.choice(BAD)
        self._put_csv(user_id, sample.expected["code"], sample.body)

    def _put_csv(self, user_id: str, content: Content, body: bytes) -> None:
        self._model.will_put(user_id, content, body)
        self._retry(user_id, f"{user_id}.csv", lambda: self._bucket.put(f"{user_id}.csv", body))

    def _remove(self, user_id: str) -> None:
        self._retry(user_id, f"{user_id}.csv", lambda: self._bucket.remove(f"{user_id}.csv"))

    def _put_photo(self, user_id: str) -> None:
        extension, body = self._random.choice(PHOTO_EXTENSIONS), b"photo " + self._random.randbytes(3000)
        self._model.will_put_photo(user_id, extension, body)
        self._retry(user_id, f"{user_id}.{extension}", lambda: self._bucket.put(f"{user_id}.{extension}", body))

    def _remove_photo(self, user_id: str) -> None:
        key = f"{user_id}.{self._random.choice(PHOTO_EXTENSIONS)}"
        self._retry(user_id, key, lambda: self._bucket.remove(key))

    def _misname(self, user_id: str) -> None:
        """Upload or remove an empty, misnamed CSV whose key begins with this user's id."""
        key = f"{user_id}-{self._random.choice(_MISNAMED_ENDINGS)}"
        self._model.misnamed.add(key)
        operation = self._random.choice((lambda: self._bucket.put(key, b""), lambda: self._bucket.remove(key)))
        self._retry(user_id, key, operation)

    def _retry(self, user_id: str, key: str, operation: Callable[[], None]) -> None:
        """Repeat the operation until S3 confirms it. After RETRY_SECONDS, add a problem instead."""
        deadline = time.monotonic() + RETRY_SECONDS
        attempts = 0
        while True:
            attempts += 1
            try:
                operation()
            except (MinioException, HTTPError, OSError) as error:
                if time.monotonic() > deadline:
                    self._calls.add_problem(f"{key} could not be changed within {RETRY_SECONDS} s: {error!r}")
                    return
                time.sleep(0.2)
            else:
                break
        self.completed += 1
        self._changed.put(key)
        if attempts > 1:
            self._not_before[user_id] = time.monotonic() + LATE_EFFECT_SECONDS

    def _erase(self, user_id: str) -> None:
        """Repeat the erasure until process-data confirms it. After RETRY_SECONDS, add a problem instead."""
        self._model.will_erase(user_id)
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            summary = self._calls.run(self._random.choice(self._slots), f"/erase?user_id={quote(user_id)}")
            if summary and user_id in (*summary["erased"], *summary["not_found"]) and summary["status"] == "done":
                break
            if time.monotonic() > deadline:
                self._calls.add_problem(f"{user_id} could not be erased within {RETRY_SECONDS} s: {summary}")
                return
        self.completed += 1
        self._model.record_erasure(user_id)
        # also long enough for the next CSV to get a later Last-Modified, in whole seconds
        self._not_before[user_id] = time.monotonic() + LATE_EFFECT_SECONDS
