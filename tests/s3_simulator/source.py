"""The bucket `src`, whose objects are generated from their keys."""

import re
import time
from array import array
from email.utils import formatdate
from typing import NamedTuple

_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)
_DIGITS = re.compile(rb"[0-9]*")


def csv_body(user_id: int, version: int = 0) -> bytes:
    """Return the CSV of a user. Its length is the same for every id and version."""
    birthts = 100_000_000_000 + (user_id * 7_919_000_017 + version * 86_400_000) % 800_000_000_000
    row = f"First {user_id % 5_000:04},Łast {user_id % 20_000:05},{birthts}"
    return f"first_name,last_name,birthts\n{row}\n".encode()


class _Template(NamedTuple):
    """The fixed text of an object's entry in a listing, and of its response headers.

    Each field is the text before and the text after the padding and id in the ETag. `entry` begins after the id in the
    key. `headers` includes the status line.
    """

    entry: tuple[str, str]
    headers: tuple[str, str]


def _template(suffix: str, size: int, content_type: str, version: int) -> _Template:
    now = int(time.time())
    modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now))
    return _Template(
        (
            f"{suffix}</Key><LastModified>{modified}</LastModified><ETag>&quot;{suffix[1]}",
            f"{version:06}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>",
        ),
        (
            f"HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Type: {content_type}\r\nContent-Length: {size}\r\n"
            f'Last-Modified: {formatdate(now, usegmt=True)}\r\nETag: "{suffix[1]}',
            f'{version:06}"\r\n',
        ),
    )


class SourceBucket:
    """The bucket `src`. A position is that of a key in the listing, an index is that of a user; both start at 0."""

    def __init__(self, people: int, photos: int, first_id: int) -> None:
        self._width = len(str(first_id))
        if not 0 <= photos <= people:
            raise ValueError(f"invalid photos {photos}: expected 0 to {people}")
        if first_id < 0 or self._width > 18 or len(str(first_id + max(people - 1, 0))) != self._width:
            raise ValueError(f"invalid first_id {first_id}: expected {people} ids of equal length, at most 18 digits")
        self._people, self._photos, self._first_id = people, photos, first_id
        self._padding = "0" * (25 - self._width)  # an ETag has 32 characters: a letter, padding, id, version
        self._version_of = array("H", bytes(2 * people))
        self._failing = bytearray(people)
        self._csv_templates = [self._csv_template(0)]
        self._png_template = _template(".png", len(_PNG), "image/png", 0)

    def _csv_template(self, version: int) -> _Template:
        return _template(".csv", len(csv_body(self._first_id)), "text/csv", version)

    def change(self, first: int, count: int) -> None:
        self._check_range(first, count)
        version = len(self._csv_templates)
        if version > 65_535:
            raise ValueError("too many changes: expected at most 65535")
        self._csv_templates.append(self._csv_template(version))
        self._version_of[first : first + count] = array("H", [version]) * count

    def fail(self, first: int, count: int) -> None:
        self._check_range(first, count)
        self._failing[first : first + count] = b"\1" * count

    def recover(self) -> None:
        self._failing = bytearray(self._people)

    def _check_range(self, first: int, count: int) -> None:
        if first < 0 or count < 0 or first + count > self._people:
            raise ValueError(f"invalid range of {count} users from index {first}: there are {self._people} users")

    def position(self, key: bytes, *, after: bool = False) -> int:
        """Return the position of the first key that is not less than `key`, or that is greater if `after`."""
        digits = _DIGITS.match(key, 0, self._width)
        assert digits is not None
        prefix, suffix = digits[0], key[digits.end() :]
        if missing := self._width - len(prefix):
            # no digit follows the prefix in `key`, so `key` is after all ids with this prefix, or before all of them
            is_after_ids = suffix > b"9"
            index = int(prefix + (b"9" if is_after_ids else b"0") * missing) + is_after_ids - self._first_id
            suffix = b""
        else:
            index = int(prefix) - self._first_id
        if index < 0:
            return 0
        if index >= self._people:
            return self._people + self._photos
        names = [b".csv", b".png"][: 1 + self._has_photo(index)]
        return self._position_of(index) + sum(name < suffix or (after and name == suffix) for name in names)

    def key_at(self, position: int) -> str:
        index = self._index_at(position)
        return f"{self._first_id + index}{'.csv' if position == self._position_of(index) else '.png'}"

    def entries(self, start: int, end: int) -> list[str]:
        """Return the XML of the keys at these positions."""
        if start >= end:
            return []
        first, last = self._index_at(start), self._index_at(end - 1)
        people, photos, padding, templates = self._people, self._photos, self._padding, self._csv_templates
        png_1, png_2 = self._png_template.entry
        entries: list[str] = []
        photos_before = first * photos // people
        for index, version in enumerate(self._version_of[first : last + 1], first):
            user_id = str(self._first_id + index)
            csv_1, csv_2 = templates[version].entry
            entries.append(f"<Contents><Key>{user_id}{csv_1}{padding}{user_id}{csv_2}")
            photos_until = (index + 1) * photos // people
            if photos_until != photos_before:
                photos_before = photos_until
                entries.append(f"<Contents><Key>{user_id}{png_1}{padding}{user_id}{png_2}")
        offset = start - self._position_of(first)
        return entries[offset : offset + end - start]

    def read(self, key: str) -> tuple[str, bytes] | None:
        """Return the status line and headers of an object, and its body. Return None if there is no such key.

        Raise OSError if `fail` was called for the user.
        """
        user_id, suffix = key[:-4], key[-4:]
        if len(user_id) != self._width or not user_id.isdecimal():
            return None
        index = int(user_id) - self._first_id
        if not 0 <= index < self._people:
            return None
        version = self._version_of[index]
        if suffix == ".csv":
            template, body = self._csv_templates[version], csv_body(self._first_id + index, version)
        elif suffix == ".png" and self._has_photo(index):
            template, body = self._png_template, _PNG
        else:
            return None
        if self._failing[index]:
            raise OSError(key)
        before_etag, after_etag = template.headers
        return f"{before_etag}{self._padding}{user_id}{after_etag}", body

    def _has_photo(self, index: int) -> bool:
        return (index + 1) * self._photos // self._people > index * self._photos // self._people

    def _position_of(self, index: int) -> int:
        """Return the position of a user's CSV."""
        return index + index * self._photos // self._people

    def _index_at(self, position: int) -> int:
        return ((position + 1) * self._people - 1) // (self._people + self._photos)
