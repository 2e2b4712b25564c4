"""The CSVs in tests/data: each with what is expected of it in the JSON beside it."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Sample:
    """A CSV as it would be dropped into the bucket. `key` is None where any good name will do."""

    name: str
    key: str | None
    body: bytes
    expected: dict[str, Any]

    def __str__(self) -> str:
        return self.name


@cache
def samples(kind: str) -> list[Sample]:
    """The samples of a folder of tests/data: good or bad."""
    return [_read(path) for path in sorted((DATA / kind).glob("*.csv"))]


def _read(path: Path) -> Sample:
    expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    body = path.read_bytes()
    # a padded file is too large to keep in the repository
    return Sample(path.stem, expected.pop("key", None), body.ljust(expected.pop("padded_to", 0), b"\n"), expected)
