"""Fetching begins early while nothing else is fetched, and in whole segments otherwise."""

from contextlib import ExitStack
from typing import Any

import pytest
from process_data.shared.storage.listing import ListingPage
from process_data.shared.storage.objects import Object, Objects

from tests.rows import starts
from tests.runs import application, run
from tests.s3_simulator.client import simulated_s3
from tests.stack import Stack


def test_a_process_is_busy_when_two_scans_have_enough_to_fetch(roll: Stack) -> None:
    def busy(**fetching: int) -> bool:
        with ExitStack() as scans:
            for scan, number in fetching.items():
                scans.enter_context(made.fetching(scan, number))
            return made.is_busy

    with application(roll, fetch_threads="4") as made:
        assert not busy(one=50)  # nothing is fetched while it lists or stores
        assert not busy(one=50, other=0)
        assert busy(one=50, other=1)
        assert not busy(one=2, other=1)
        with made.fetching("one", 50):  # as expected before its listing is known
            assert busy(other=1)
            with made.fetching("one", 2):
                assert not busy(other=1)
            assert busy(other=1)
        assert not busy(other=1)


class Traced(Objects):
    """S3 whose calls are noted: pages of a range, and objects."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.calls: list[str] = []

    def list_page(self, bucket: str, **named: Any) -> ListingPage:
        if "prefix" not in named:
            self.calls.append("page")
        return super().list_page(bucket, **named)

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        self.calls.append("get")
        return super().get(bucket, key, limit=limit)


@pytest.mark.parametrize(("is_fetching", "pages"), [(False, 1), (True, 3)])
def test_fetching_begins_after_a_page_while_nothing_else_is_fetched(
    roll: Stack, *, is_fetching: bool, pages: int
) -> None:
    with simulated_s3(people=2500, photos=0) as simulator, ExitStack() as stack:
        endpoint = {"s3_endpoint": simulator.endpoint, "s3_secure": "false"}
        made = stack.enter_context(application(roll, Traced, workers="1", **endpoint))
        if is_fetching:
            stack.enter_context(made.fetching(object(), 1))
        assert run(made)["added"] == 2500
        assert isinstance(made.objects, Traced)
        assert made.objects.calls.index("get") == pages
        assert len(starts(roll)) == 1  # what was cut is merged
