"""A model of all uploads and erasures, and of the rows and photos that may, must or must not be served.

Each user is changed by one uploader, which calls a `will_…` method before an upload or an erasure, and
`record_erasure` after an erasure. A user may have several possible rows: an erasure removes them, and `set_baseline`,
which is called while nothing changes, keeps the one in the table.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic, time

PHOTO_EXTENSIONS = ("png", "jpg", "jpeg")  # extensions, in order of preference
HOUR = 3_600_000  # milliseconds
_PADDING = 180 * "x"  # in first names, so that a response with a few hundred people has several chunks

Person = tuple[str, str, int]
"""First name, last name, birthts."""
Content = Person | str
"""The person in a CSV, or the code with which the CSV is rejected."""


@dataclass
class User:
    """One user. Times are on the monotonic clock.

    `contents` has every CSV that may have been uploaded, by ETag. `img_paths` has every img_path that the user may have
    had, and `possible_rows` every row that may exist now. After `erased_at` the user must have no row; after
    `present_at` the user must have a row.
    """

    user_id: str
    contents: dict[str, Content] = field(default_factory=dict)
    img_paths: set[str] = field(default_factory=set)
    possible_rows: set[Person] = field(default_factory=set)
    was_erased: bool = False
    erased_at: float | None = None
    present_at: float | None = None


class Model:
    def __init__(self, user_ids: list[str], bucket: str) -> None:
        self._bucket, self._versions, self._lock = bucket, 0, Lock()
        self._first_birth = int(time() * 1000) - HOUR
        self.users = {user_id: User(user_id) for user_id in user_ids}
        self.photos: dict[str, set[bytes]] = defaultdict(set)  # bodies that may have been uploaded, by user_id
        self.misnamed: set[str] = set()

    def new_person(self, user_id: str) -> Person:
        """Return a new version of a person, born an hour before the trial.

        For a clock that is set back by more than an hour, the birth is in the future.
        """
        with self._lock:
            self._versions += 1
            return f"First{user_id}{_PADDING}", f"Last{self._versions}", self._first_birth + self._versions

    def will_put(self, user_id: str, content: Content, body: bytes) -> None:
        user = self.users[user_id]
        user.erased_at = None
        user.contents[hashlib.md5(body).hexdigest()] = content
        if not isinstance(content, str):
            user.possible_rows.add(content)

    def will_put_photo(self, user_id: str, extension: str, body: bytes) -> None:
        self.photos[user_id].add(body)
        self.users[user_id].img_paths.add(f"{self._bucket}/{user_id}.{extension}")

    def will_erase(self, user_id: str) -> None:
        self.users[user_id].present_at = None

    def record_erasure(self, user_id: str) -> None:
        user = self.users[user_id]
        user.possible_rows.clear()
        user.was_erased = True
        user.erased_at = monotonic()

    def required_at(self, sent_at: float) -> set[str]:
        """Return the user_ids that a complete response to a request sent at `sent_at` must contain."""
        present = ((user.user_id, user.present_at) for user in self.users.values())
        return {user_id for user_id, present_at in present if present_at is not None and present_at < sent_at}

    def row_error(self, user_id: str, person: Person, image: str | None, sent_at: float) -> str:
        """Return what is wrong with a row in the response to a request sent at `sent_at`, or an empty string."""
        user = self.users.get(user_id)
        if user is None:
            return f"{user_id} was never uploaded"
        if (erased_at := user.erased_at) is not None and erased_at < sent_at:
            return f"{user_id} was erased"
        if person not in list(user.contents.values()):
            return f"{user_id} was never {person}"
        if image is not None and image not in user.img_paths:
            return f"{user_id} never had {image}"
        return ""

    def may_be_rejected(self, key: str, code: str) -> bool:
        """Whether the file may have been rejected with this code."""
        if key in self.misnamed:
            return code == "bad_name"
        user = self.users.get(key.removesuffix(".csv"))
        # births are in the future for a clock that jumped back
        return user is not None and (code in list(user.contents.values()) or code == "in_the_future")

    def differences(self, etags: dict[str, str], rows: dict[str, tuple[Person, str | None]]) -> list[str]:
        """Compare the bucket (ETags by key) with the table (rows by user_id). Return the differences."""
        differences = [f"{user_id} was never uploaded" for user_id in rows.keys() - self.users.keys()]
        for user_id, user in self.users.items():
            row = rows.get(user_id)
            content = user.contents[etag] if (etag := etags.get(f"{user_id}.csv")) else None
            if user.erased_at is not None:
                matches = row is None
            elif isinstance(content, tuple):
                matches = row is not None and row[0] == content
            else:
                matches = (row is None and user.present_at is None) or (
                    row is not None and row[0] in user.possible_rows
                )
            if not matches:
                differences.append(
                    f"{user_id}: the bucket has {content}, the table has {row}; possible rows: {user.possible_rows}"
                )
            elif row is not None and row[1] != self.img_path(user_id, etags):
                differences.append(f"{user_id}: the photo is {self.img_path(user_id, etags)}, the table has {row[1]}")
        return differences

    def set_baseline(self, rows: dict[str, tuple[Person, str | None]]) -> None:
        """Record the rows of the table, which must be served from now on."""
        for user_id, user in self.users.items():
            user.possible_rows = {rows[user_id][0]} if user_id in rows else set()
            user.present_at = monotonic() if user_id in rows else None

    def img_path(self, user_id: str, etags: dict[str, str]) -> str | None:
        names = (f"{user_id}.{extension}" for extension in PHOTO_EXTENSIONS)
        return next((f"{self._bucket}/{name}" for name in names if name in etags), None)

    def rejected(self, etags: dict[str, str]) -> set[tuple[str, str]]:
        """Return the files and codes that must be in the table `rejected`."""
        rejected = {(key, "bad_name") for key in etags if key in self.misnamed}
        for user_id, user in self.users.items():
            content = user.contents[etag] if (etag := etags.get(f"{user_id}.csv")) else None
            if isinstance(content, str) and user.erased_at is None:
                rejected.add((f"{user_id}.csv", content))
        return rejected

    def wrong_tombstones(self, erased: set[str], rows: dict[str, tuple[Person, str | None]]) -> set[str]:
        """Return the users with a missing or an unexpected tombstone.

        An erased user keeps the tombstone if a new CSV is rejected, or is removed before a scan reads it.
        """
        required = {user.user_id for user in self.users.values() if user.erased_at is not None}
        allowed = {user.user_id for user in self.users.values() if user.was_erased} - rows.keys()
        return (required - erased) | (erased - allowed)
