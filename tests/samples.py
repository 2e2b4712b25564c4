"""The CSVs in tests/data, each with its expected result in a JSON file of the same name."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Sample:
    """A CSV as it would be uploaded. `key` is None if any valid key will do."""

    name: str
    key: str | None
    body: bytes
    expected: dict[str, Any]

    def __str__(self) -> str:
        return self.name


@cache
def samples(kind: str) -> list[Sample]:
    """Return the samples of a folder of tests/data: good or bad."""
    return [_read(path) for path in sorted((DATA / kind).glob("*.csv"))]


def _read(path: Path) -> Sample:
    expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    body = path.read_bytes()
    # padded here: the whole file would be too large for the repository
    return Sample(path.stem, expected.pop("key", None), body.ljust(expected.pop("padded_to", 0), b"\n"), expected)
