"""People who upload, replace, remove and erase, each of whom looks after some users and goes on until it is done."""

import time
from collections.abc import Callable
from queue import Queue
from random import Random
from urllib.parse import quote

from minio.error import MinioException
from urllib3.exceptions import HTTPError

from tests.faults.calls import Calls
from tests.faults.model import PHOTOS, Content, Model
from tests.faults.subject import Slot
from tests.samples import samples
from tests.stack import Bucket

NEW_SECOND = 1.1  # seconds after which S3's Last-Modified is another one
LATE = 3.0  # seconds after which nothing comes of a request any more that was given up
_MISNAMED = ("x.csv", "a b+c%2F.csv", "1.x.csv", "0x.csv")

BAD = [
    one
    for one in samples("bad")
    if one.key is None and len(one.body) <= 65536 and one.expected["code"] != "in_the_future"
]


class Uploader:
    """Changes its own users. `changed` is told the keys, as S3's events would."""

    def __init__(
        self, model: Model, bucket: Bucket, calls: Calls, slots: list[Slot], user_ids: list[str], random: Random,
        changed: "Queue[str]",
    ) -> None:  # fmt: skip
        self._model, self._bucket, self._calls, self._slots = model, bucket, calls, slots
        self._user_ids, self._random, self._changed = user_ids, random, changed
        self._not_before = dict.fromkeys(user_ids, 0.0)  # by the monotonic clock
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
        self.done = 0

    def step(self) -> None:
        """Do something with one of the users, and see it through."""
        user_id = self._random.choice(self._user_ids)
        if time.monotonic() < self._not_before[user_id]:
            return
        [(_, operation)] = self._random.choices(self._operations, [weight for weight, _ in self._operations])
        operation(user_id)
        self.done += 1

    def put(self, user_id: str) -> None:
        person = self._model.new_person(user_id)
        self._put_csv(user_id, person, "first_name,last_name,birthts\n{},{},{}\n".format(*person).encode())

    def _put_again(self, user_id: str) -> None:
        """Upload a version that there was before, if there was one."""
        persons = [one for one in self._model.users[user_id].contents.values() if not isinstance(one, str)]
        if persons:
            person = self._random.choice(persons)
            self._put_csv(user_id, person, "first_name,last_name,birthts\n{},{},{}\n".format(*person).encode())

    def _put_bad(self, user_id: str) -> None:
        sample = self._random.choice(BAD)
        self._put_csv(user_id, sample.expected["code"], sample.body)

    def _put_csv(self, user_id: str, content: Content, body: bytes) -> None:
        self._model.will_put(user_id, content, body)
        self._see_through(user_id, f"{user_id}.csv", lambda: self._bucket.put(f"{user_id}.csv", body))

    def _remove(self, user_id: str) -> None:
        self._see_through(user_id, f"{user_id}.csv", lambda: self._bucket.remove(f"{user_id}.csv"))

    def _put_photo(self, user_id: str) -> None:
        kind, body = self._random.choice(PHOTOS), b"photo " + self._random.randbytes(3000)
        self._model.will_put_photo(user_id, kind, body)
        self._see_through(user_id, f"{user_id}.{kind}", lambda: self._bucket.put(f"{user_id}.{kind}", body))

    def _remove_photo(self, user_id: str) -> None:
        name = f"{user_id}.{self._random.choice(PHOTOS)}"
        self._see_through(user_id, name, lambda: self._bucket.remove(name))

    def _misname(self, user_id: str) -> None:
        """Put or remove a CSV that has no user's name, but this user's in it."""
        name = f"{user_id}-{self._random.choice(_MISNAMED)}"
        self._model.misnamed.add(name)
        act = self._random.choice((lambda: self._bucket.put(name, b""), lambda: self._bucket.remove(name)))
        self._see_through(user_id, name, act)

    def _see_through(self, user_id: str, key: str, act: Callable[[], None]) -> None:
        """Repeat it until S3 says that it is done."""
        attempts = 0
        while True:
            attempts += 1
            try:
                act()
            except (MinioException, HTTPError, OSError):
                time.sleep(0.2)
            else:
                break
        self._changed.put(key)
        if attempts > 1:
            self._not_before[user_id] = time.monotonic() + LATE

    def _erase(self, user_id: str) -> None:
        """Repeat it until process-data says that it is done."""
        self._model.will_erase(user_id)
        while True:
            summary = self._calls.run(self._random.choice(self._slots), f"/erase?user_id={quote(user_id)}")
            if summary and user_id in (*summary["erased"], *summary["not_found"]) and summary["status"] == "done":
                break
        self._model.is_erased(user_id)
        self._not_before[user_id] = time.monotonic() + max(NEW_SECOND, LATE)
