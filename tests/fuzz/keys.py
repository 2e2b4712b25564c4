"""Checks how process-data parses object keys, and that Python and PostgreSQL sort and compare them alike."""

from collections.abc import Iterator
from random import Random

from process_data.keys import csv_key, is_representable, keys_of, parse_key, user_around, user_of_csv
from process_data.scope import Range

from tests.stack import Stack, connected

_BATCH = 100  # keys; the representable ones are also tested as boundaries
_ENDINGS = (
    ".csv", ".csv", ".csv", ".png", ".jpg", ".jpeg", "", ".CSV", ".Csv", ".csv ", ".gif", ".cs", ".csv/",
    ".d/1.csv", ".", ".csv.csv", "-", "-1.csv", "/1.csv", "\0.csv", ".csv\n", "\udcff.csv", "\U0010ffff.csv",
    "0.csv", ".pnga",
)  # fmt: skip
_STEMS = (
    "", "a", "ä", "😀", "١٢", "٣", "1²", " 1", "1 ", "+1", "-1", "1_0", "1" * 19, "0" * 18, "x" * 1021,
    "\x7f", "~", "\uffff",
)  # fmt: skip

# The users whose CSV is in a range, by the condition that a scan uses.
_IN_RANGE = f"""
select user_id
from (select user_id collate "C" as user_id from unnest(cast(:user_ids as text[])) as ids (user_id)) as users
where {Range.user_condition}
"""

_SORT = """select key from unnest(cast(:keys as text[])) as keys (key) order by key collate "C" """


def fuzz(stack: Stack, inputs: int, seed: int) -> Iterator[str]:
    random = Random(seed)
    with connected(stack.process_settings) as connection:
        for tested in range(0, inputs, _BATCH):
            keys = [_key(random) for _ in range(min(_BATCH, inputs - tested))]
            for key in keys:
                yield from _problems(key)
            boundaries = sorted(key for key in keys if is_representable(key))
            if [row[0] for row in connection.run(_SORT, keys=boundaries)] != boundaries:
                yield f"PostgreSQL sorts differently: {boundaries}"
            user_ids = sorted({user_id for key in keys if (user_id := parse_key(key).user_id)})
            yield from (problem for key in boundaries for problem in _problems_of_boundary(key, user_ids))
            start, end = sorted(random.choices(["", *boundaries], k=2))
            scope = Range(start, end)
            selected = sorted(row[0] for row in connection.run(_IN_RANGE, user_ids=user_ids, **scope.user_parameters))
            if selected != [user_id for user_id in user_ids if start < f"{user_id}.csv" <= end]:
                yield f"a scan of {scope} selects {selected} of {user_ids}"


def _key(random: Random) -> str:
    digits = "".join(random.choices("0129", k=random.choice((1, 1, 2, 2, 3, 17, 18))))
    return (digits if random.random() < 0.8 else random.choice(_STEMS)) + random.choice(_ENDINGS)


def _problems(key: str) -> Iterator[str]:
    kind, user_id = parse_key(key)
    stem, _, extension = key.rpartition(".")
    is_user_id = 1 <= len(stem) <= 18 and not set(stem) - set("0123456789")
    expected: tuple[str, str | None] = ("ignored", None)
    if is_user_id and extension in ("csv", "png", "jpg", "jpeg"):
        expected = ("csv" if extension == "csv" else "photo", stem)
        if key not in keys_of(stem) or keys_of(stem) != sorted(keys_of(stem)):
            yield f"the keys of {stem} are {keys_of(stem)}"
    elif extension.lower() == "csv" and "/" not in key and _is_storable(key):
        expected = ("bad_name", None)
    if (kind, user_id) != expected:
        yield f"parse_key({key!r}) returns {(kind, user_id)}, not {expected}"
    if user_of_csv(key) != (stem if expected == ("csv", stem) else None):
        yield f"user_of_csv({key!r}) returns {user_of_csv(key)!r}"


def _is_storable(key: str) -> bool:
    """Whether S3 and PostgreSQL can store the key. U+10FFFF is excluded, as it marks the end of the last segment."""
    return not any(char in "\0\U0010ffff" or 0xD800 <= ord(char) < 0xE000 for char in key) and len(key.encode()) <= 1024


def _problems_of_boundary(boundary: str, user_ids: list[str]) -> Iterator[str]:
    """Check `user_around` (the user, if any, with keys on both sides) and `csv_key` (each user's first key)."""
    split_user = user_around(boundary)
    for user_id in user_ids:
        count = sum(key <= boundary for key in keys_of(user_id))
        if (split_user == user_id) != (0 < count < len(keys_of(user_id))) or csv_key(user_id) != keys_of(user_id)[0]:
            results = f"user_around returns {split_user} and csv_key {csv_key(user_id)}"
            yield f"{count} keys of {user_id} are at or before {boundary!r}, but {results}"
