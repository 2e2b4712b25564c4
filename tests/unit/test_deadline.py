"""The deadline of a run."""

import threading

from process_data.deadline import Deadline


def test_a_deadline_expires_with_time_or_when_stopped_or_cancelled() -> None:
    stopping = threading.Event()
    deadline = Deadline(60, stopping)
    assert not deadline.expired
    assert 50 < deadline.remaining <= 60 < deadline.remaining_with(5) <= 65
    deadline.cancel()
    assert (deadline.expired, deadline.remaining_with(5)) == (True, 0)
    deadline.resume()
    assert not deadline.expired
    stopping.set()
    assert (deadline.expired, deadline.remaining_with(5)) == (True, 0)
    short = Deadline(0.01, threading.Event())
    short.sleep(60)
    assert (short.expired, short.elapsed_fraction >= 1, short.elapsed < 30) == (True, True, True)
