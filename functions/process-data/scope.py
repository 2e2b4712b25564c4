"""The scope of a scan: a range of keys, or single objects."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .keys import user_of_csv

_LOWER_BOUND = re.compile("[^\0-.]*")
"""Matches the start of a key, up to the first character that is "." or sorts before it.

If a user_id is less than the match, its CSV sorts before the key. This holds even if the user_id is a prefix of the
match: the "." of the CSV sorts before the next character of the match.
"""


class Scope(Protocol):
    """SQL conditions on the columns `user_id` (of users and erased) and `object` (of rejected), with parameters."""

    @property
    def user_condition(self) -> str: ...

    @property
    def object_condition(self) -> str: ...

    @property
    def user_parameters(self) -> dict[str, object]: ...

    @property
    def object_parameters(self) -> dict[str, object]: ...


@dataclass(frozen=True)
class Range:
    """The keys greater than `start`, up to and including `end`, and the users whose CSV is one of them."""

    start: str
    end: str

    # the first two comparisons follow from the others, but can use the index on user_id
    user_condition = (
        "user_id >= :min_user_id and user_id < :end and user_id || '.csv' > :start and user_id || '.csv' <= :end"
    )
    object_condition = "object > :start and object <= :end"

    @property
    def user_parameters(self) -> dict[str, object]:
        bound = _LOWER_BOUND.match(self.start)
        return {"min_user_id": bound[0] if bound else "", **self.object_parameters}

    @property
    def object_parameters(self) -> dict[str, object]:
        return {"start": self.start, "end": self.end}


@dataclass(frozen=True)
class KeySet:
    """Single keys. A CSV's key stands for its user, photo included."""

    keys: Sequence[str]

    user_condition = "user_id = any(cast(:users as text[]))"
    object_condition = "object = any(cast(:keys as text[]))"

    @property
    def user_parameters(self) -> dict[str, object]:
        return {"users": [user_id for key in self.keys if (user_id := user_of_csv(key)) is not None]}

    @property
    def object_parameters(self) -> dict[str, object]:
        return {"keys": list(self.keys)}
