"""A versioned source bucket, and a model of the tables that its history must produce.

A run that overlaps with a change to the bucket may or may not see it. The model therefore keeps all possible states; a
run without overlap narrows them down.
"""

import io
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from minio import Minio

SOURCE = "versions"

USERS = ("1", "12", "120", "129", "2", "20", "3")
PHOTO_EXTENSIONS = ("png", "jpg", "jpeg")  # in order of preference
BAD = {
    "empty": b"",
    "no_row": b"first_name,last_name,birthts\n",
    "not_an_integer": b"first_name,last_name,birthts\nAda,Lovelace,soon\n",
    "too_large": b"x" * 70_000,
}

_BIRTH_DELAY = 0.7  # seconds from now until the birth that `put_future` uploads

Person = tuple[str, str, int]
Content = Person | str | None
"""The person in a CSV, or the code with which the CSV is rejected. None if there is no CSV."""


@dataclass(frozen=True)
class Tombstone:
    """`modified` is the latest Last-Modified of the CSVs known at the erasure, in seconds since 1970, or None."""

    modified: int | None


State = Person | Tombstone | None
"""The state of a user in the tables."""


class Version(NamedTuple):
    content: Content
    id: str
    modified: int  # Last-Modified in seconds since 1970


def is_processed(version: Version, state: State) -> bool:
    """Whether a scan processes a CSV. If its user was erased, it must be newer than the CSVs known at the erasure."""
    return not isinstance(state, Tombstone) or state.modified is None or version.modified > state.modified


class SourceBucket:
    """The source bucket, and the possible states of each user in the tables."""

    def __init__(self, client: Minio) -> None:
        self._client = client
        self.versions: dict[str, list[Version]] = {user: [] for user in USERS}  # the current one last
        self.photos: set[tuple[str, str]] = set()
        self.misnamed: set[str] = set()
        self.possible: dict[str, set[State]] = {user: {None} for user in USERS}
        self._uploads: dict[str, list[tuple[Person, int]]] = defaultdict(list)  # with Last-Modified
        self._numbers = count()

    def current(self, user: str) -> Version | None:
        """Return the user's current CSV, or None."""
        version = self.versions[user][-1] if self.versions[user] else None
        return version if version and version.content is not None else None

    def put_good(self, user: str) -> None:
        number = next(self._numbers)
        self._put_person(user, (f"First {number}", f"Last {number}", number))

    def put_newer(self, user: str) -> None:
        """Upload a CSV with a later Last-Modified than all earlier versions: wait for the next second if necessary."""
        latest = max((version.modified for version in self.versions[user]), default=0)
        time.sleep(max(0.0, latest + 1 - time.time()))
        self.put_good(user)

    def put_future(self, user: str) -> None:
        number = next(self._numbers)
        self._put_person(user, (f"First {number}", f"Last {number}", int((time.time() + _BIRTH_DELAY) * 1000)))

    def put_again(self, user: str) -> None:
        """Upload the user's first valid content again, if any. It has the same ETag as before."""
        if self._uploads[user]:
            self._put_person(user, self._uploads[user][0][0])

    def put_bad(self, user: str, code: str) -> None:
        """Upload an invalid CSV. The number of blank lines at its end gives each upload its own ETag."""
        self._put(user, code, BAD[code] + b"\n" * next(self._numbers))

    def remove(self, user: str) -> None:
        if self.current(user):
            self._delete(f"{user}.csv")
            marker = next(
                version
                for version in self._client.list_objects(bucket_name=SOURCE, prefix=f"{user}.csv", include_version=True)
                if version.is_latest in (True, "true") and version.object_name == f"{user}.csv"
            )
            self.versions[user].append(Version(None, str(marker.version_id), 0))

    def restore(self, user: str) -> None:
        """Delete the current version or delete marker, so that the previous version is current again."""
        if self.versions[user]:
            version = self.versions[user].pop()
            self._client.remove_object(bucket_name=SOURCE, object_name=f"{user}.csv", version_id=version.id)

    def put_photo(self, user: str, extension: str) -> None:
        self._write(f"{user}.{extension}", b"photo %d" % next(self._numbers))
        self.photos.add((user, extension))

    def remove_photo(self, user: str, extension: str) -> None:
        self._delete(f"{user}.{extension}")
        self.photos.discard((user, extension))

    def put_misnamed(self, name: str) -> None:
        self._write(name, b"")
        self.misnamed.add(name)

    def remove_misnamed(self, name: str) -> None:
        self._delete(name)
        self.misnamed.discard(name)

    def put_unrelated(self, name: str) -> None:
        self._write(name, b"")

    def remove_unrelated(self, name: str) -> None:
        self._delete(name)

    def record_possible_scan(self, erased: Collection[str] = ()) -> None:
        """Record that a run may have read the current state, and may have erased these users."""
        for user in USERS:
            self.possible[user] |= {self._after_scan(user, state) for state in self.possible[user]}
            if user in erased:
                self.possible[user] |= self._after_erasure(user)

    def record_scan(self, users: Collection[str]) -> None:
        """Record that a run without overlap has read these users. A birth may have been in the future at that time."""
        for user in users:
            states = {self._after_scan(user, state) for state in self.possible[user]}
            is_born = self.birth(user) < time.time() - 5  # assumes that a run takes less than 5 seconds
            self.possible[user] = states if is_born else self.possible[user] | states

    def record_final_scan(self) -> None:
        """Record that a run has read all users, and that no birth is in the future."""
        for user in USERS:
            self.possible[user] = {self._after_scan(user, state) for state in self.possible[user]}

    def record_erasure(self, users: Collection[str]) -> None:
        """Record that these users were erased without overlap."""
        for user in users:
            self.possible[user] = self._after_erasure(user)

    def record_database_restore(self, possible: Mapping[str, set[State]], tombstones: Mapping[str, Tombstone]) -> None:
        """Record that the tables were restored to these states, except for the tombstones in erased.csv."""
        for user in USERS:
            self.possible[user] = {tombstones[user]} if user in tombstones else set(possible[user])

    def img_path(self, user: str) -> str:
        return next(
            (f"{SOURCE}/{user}.{extension}" for extension in PHOTO_EXTENSIONS if (user, extension) in self.photos), ""
        )

    def rejected(self, states: Mapping[str, State]) -> set[tuple[str, str]]:
        """Return the objects that have to be rejected, and their codes, if the users are in these states."""
        invalid = {
            (f"{user}.csv", version.content)
            for user in USERS
            if (version := self.current(user))
            and isinstance(version.content, str)
            and is_processed(version, states[user])
        }
        return invalid | {(name, "bad_name") for name in self.misnamed}

    def birth(self, user: str) -> float:
        """Return the time of birth in seconds since 1970; 0 without a CSV that contains a person."""
        version = self.current(user)
        return version.content[2] / 1000 if version and isinstance(version.content, tuple) else 0

    def clear(self) -> None:
        for version in list(self._client.list_objects(bucket_name=SOURCE, recursive=True, include_version=True)):
            self._client.remove_object(
                bucket_name=SOURCE, object_name=str(version.object_name), version_id=version.version_id
            )

    def _after_scan(self, user: str, state: State) -> State:
        """Return the user's state after a scan."""
        version = self.current(user)
        is_ingested = version and isinstance(version.content, tuple) and is_processed(version, state)
        return version.content if version and is_ingested else state  # type: ignore[return-value]

    def _after_erasure(self, user: str) -> set[State]:
        """Return the possible states after an erasure: tombstones that are not older than the current CSV."""
        version, known_times = self.current(user), set[int | None]()
        for state in self.possible[user]:
            if isinstance(state, Tombstone):
                known_times.add(state.modified)
            elif state is None:
                known_times.add(None)
            else:  # the row may come from any upload of this person
                known_times |= {modified for person, modified in self._uploads[user] if person == state}
        current = version and version.modified
        pairs = [[modified for modified in (current, known) if modified is not None] for known in known_times]
        return {Tombstone(max(pair, default=None)) for pair in pairs}

    def _put_person(self, user: str, person: Person) -> None:
        self._put(user, person, "first_name,last_name,birthts\n{},{},{}\n".format(*person).encode())
        self._uploads[user].append((person, self.versions[user][-1].modified))

    def _put(self, user: str, content: Content, body: bytes) -> None:
        key = f"{user}.csv"
        version = self._write(key, body)
        stat = self._client.stat_object(bucket_name=SOURCE, object_name=key, version_id=version)
        assert stat.last_modified
        self.versions[user].append(Version(content, version, int(stat.last_modified.timestamp())))

    def _write(self, key: str, body: bytes) -> str:
        result = self._client.put_object(bucket_name=SOURCE, object_name=key, data=io.BytesIO(body), length=len(body))
        return str(result.version_id)

    def _delete(self, key: str) -> None:
        self._client.remove_object(bucket_name=SOURCE, object_name=key)
