"""The age histogram and the durations on web pages."""

import pytest
from query_data.web.histogram import HEIGHT, bars
from query_data.web.page import _duration


@pytest.mark.parametrize(
    ("people", "label"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (9949, "9.9k"),
        (9960, "10k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
        (12_345_678, "12M"),
    ],
)
def test_the_label_of_a_bar_is_rounded_to_the_unit_that_fits(people: int, label: str) -> None:
    [bar] = bars([{"from": 0, "people": people}])
    assert bar.label == label


def test_bars_share_the_width_evenly_with_their_labels_in_the_middle() -> None:
    groups = bars([{"from": decade, "people": 1} for decade in (0, 10, 20, 30)])
    assert [(bar.x, bar.width, bar.middle, bar.ages) for bar in groups] == [
        (2, 21, 12.5, "0 to 9"),
        (27, 21, 37.5, "10 to 19"),
        (52, 21, 62.5, "20 to 29"),
        (77, 21, 87.5, "30 to 39"),
    ]


def test_a_single_user_among_a_million_has_a_visible_bar() -> None:
    few, none, many = bars([{"from": 10 * n, "people": people} for n, people in enumerate((1, 0, 1_000_000))])
    assert (few.height, none.height, many.height) == (2, 0, HEIGHT)


@pytest.mark.parametrize(
    ("finished_at", "text"),
    [
        ("02T00:00:00.04", "0.0 s"),
        ("02T00:00:09.97", "9.9 s"),
        ("02T00:00:10.00", "10 s"),
        ("02T00:00:59.99", "59 s"),
        ("02T00:01:00", "1 min 0 s"),
        ("02T00:59:59.9", "59 min 59 s"),
        ("02T01:00:00", "1 h 0 min"),
        ("03T01:02:03", "25 h 2 min"),
    ],
)
def test_a_duration_is_rounded_down(finished_at: str, text: str) -> None:
    run = {"started_at": "2026-01-02T00:00:00+00:00", "finished_at": f"2026-01-{finished_at}+00:00"}
    assert _duration(run) == text
