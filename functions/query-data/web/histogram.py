"""The age distribution as the bars of an SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

HEIGHT = 112
"""Height of the tallest bar in pixels."""

_MIN_HEIGHT = 2  # pixels, so that a single user among a million is visible


@dataclass(frozen=True)
class Bar:
    """A bar: `people` users are `start` to `start` + 9 years old.

    `x` and `width` are percentages of the drawing's width; `height` is in pixels.
    """

    x: float
    width: float
    height: float
    start: int
    people: int

    @property
    def ages(self) -> str:
        return f"{self.start} to {self.start + 9}"

    @property
    def middle(self) -> float:
        return round(self.x + self.width / 2, 3)

    @property
    def label(self) -> str:
        """The number of users, abbreviated."""
        for unit, suffix in ((1_000_000, "M"), (1_000, "k")):
            number = self.people / unit
            if number >= 0.9995:  # in the smaller unit it would round to 1000
                return f"{number:.{1 if number < 9.95 else 0}f}{suffix}"
        return str(self.people)


def bars(ages: Sequence[dict[str, Any]]) -> list[Bar]:
    """Return a bar for each of the `ages` in /stats."""
    most_people = max((group["people"] for group in ages), default=0)
    slot = 100 / len(ages) if ages else 0
    return [
        Bar(
            x=round(index * slot + slot * 0.08, 3),
            width=round(slot * 0.84, 3),
            height=round(max(_MIN_HEIGHT, HEIGHT * group["people"] / most_people), 1) if group["people"] else 0,
            start=group["from"],
            people=group["people"],
        )
        for index, group in enumerate(ages)
    ]
