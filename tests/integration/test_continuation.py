"""A partial run queues its continuation, and slow exports are not repeated for small changes."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from process_data.continuation import NotQueued
from process_data.handler import _fan_out
from process_data.request import Request
from process_data.runs import Trigger
from process_data.shared.access import has_access
from process_data.shared.storage.objects import Object, Objects

from tests.event import Event
from tests.gateway import serving_gateway
from tests.runs import Failing, application, run
from tests.stack import Stack

PEOPLE = 160
SMALL = {"segment_keys": "10", "batch_size": "5", "fetch_threads": "2", "workers": "1", "run_deadline": "1"}

TOKEN = {"auth": "token", "api_token": "s3cret"}


class Slow(Objects):
    """S3 with a delay for every object: a run of one second gets about forty of them."""

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        threading.Event().wait(0.05)
        return super().get(bucket, key, limit=limit)


@contextmanager
def gateway(status: int, accepted: int = 1000) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A gateway that responds to asynchronous requests with this status. Yield its URL and the received requests.

    A request is its path and Authorization. After `accepted` requests the gateway returns 429.
    """
    requests: list[tuple[str, str | None]] = []

    def enqueue(path: str, authorization: str | None) -> int:
        requests.append((path, authorization))
        return status if len(requests) <= accepted else 429

    with serving_gateway(enqueue) as url:
        yield url, requests


@pytest.fixture
def filled(rollcall: Stack) -> Stack:
    rollcall.bucket.put_people(f"{number:03}" for number in range(PEOPLE))
    return rollcall


def since(path: str) -> int:
    assert path.startswith("/async-function/process-data?since=")
    return int(path.partition("=")[2])


def test_each_partial_run_queues_the_next_continuation(filled: Stack) -> None:
    with gateway(202) as (url, requests), application(filled, Slow, gateway_url=url, **TOKEN, **SMALL) as app:
        summary = run(app)
        assert (summary["status"], summary["continued"]) == ("partial", True)
        assert filled.sql("select status, continued_at is not null from runs") == [["partial", True]]
        [(path, authorization)] = requests
        assert authorization == "Bearer s3cret"
        passes = 0
        while summary["continued"]:
            passes += 1
            assert passes < 20
            summary = run(app, Trigger.CONTINUATION, since=since(path))
            assert len(requests) == passes + summary["continued"]
            assert {queued for queued, _ in requests} == {path}  # all continue the work of the first run
        assert passes > 1
        assert (summary["status"], summary["trigger"], summary["segments"]["remaining"]) == ("done", "continuation", 0)
    assert filled.sql("select count(*) from users") == [[PEOPLE]]


def test_another_run_does_not_queue_a_second_continuation(filled: Stack) -> None:
    with gateway(202) as (url, requests), application(filled, Slow, gateway_url=url, **SMALL) as app:
        assert run(app)["continued"]
        assert not run(app)["continued"]
        assert len(requests) == 1
        filled.sql("update runs set continued_at = now() - interval '2 minutes'")  # as if it was lost
        assert run(app)["continued"]
        assert len(requests) == 2


def test_a_running_continuation_prevents_a_second_one(filled: Stack) -> None:
    with gateway(202) as (url, requests), application(filled, Slow, gateway_url=url, **SMALL) as app:
        with ThreadPoolExecutor(1) as executor:
            other = executor.submit(run, app, Trigger.CONTINUATION, since=0)
            filled.wait_until(lambda: filled.sql("select count(*) from runs where finished_at is null") == [[1]])
            with application(filled, Slow, gateway_url=url, **SMALL) as second:
                second.stopping.wait(0.3)
                second.stopping.set()  # it ends before the other run
                assert not run(second)["continued"]
            assert other.result()["continued"]
        assert len(requests) == 1


def test_repeated_requests_cause_at_most_ten_continuations(filled: Stack) -> None:
    with gateway(202) as (url, requests), application(filled, Slow, gateway_url=url, **SMALL) as app:
        # eleven were queued: the run below and ten others
        filled.sql(
            "insert into runs (trigger, status, finished_at, continued_at) "
            "select 'continuation', 'partial', now(), now() from generate_series(1, 11)"
        )
        filled.sql("update runs set started_at = now() - interval '5 minutes'")
        assert not run(app, Trigger.CONTINUATION, since=0)["continued"]
        filled.sql("delete from runs where id = 1 or id = (select max(id) from runs)")  # now there are nine others
        assert run(app, Trigger.CONTINUATION, since=0)["continued"]
        assert len(requests) == 1


def test_a_finished_chain_does_not_prevent_a_new_one(filled: Stack) -> None:
    with gateway(202) as (url, requests), application(filled, Slow, gateway_url=url, **SMALL) as app:
        summary = run(app)
        while summary["continued"]:
            summary = run(app, Trigger.CONTINUATION, since=since(requests[0][0]))
        assert summary["status"] == "done"
        filled.sql("update users set csv_etag = ''")
        assert run(app)["continued"]


def test_a_partly_queued_fan_out_succeeds(filled: Stack) -> None:
    with gateway(202, accepted=2) as (url, requests), application(filled, gateway_url=url) as app:
        response = _fan_out(app, Request(Trigger.HTTP, fan_out=5))
        assert (response.status_code, len(response.get_json()["runs"]), len(requests)) == (202, 2, 3)
        with pytest.raises(NotQueued):
            _fan_out(app, Request(Trigger.HTTP, fan_out=5))


@pytest.mark.parametrize("status", [200, 429, 500])
def test_if_the_gateway_queues_nothing_the_next_run_continues(filled: Stack, status: int) -> None:
    """429 is a full queue; 200 comes from something that is not a queue."""
    with gateway(status) as (url, requests), application(filled, Slow, gateway_url=url, **SMALL) as app:
        summary = run(app)
        assert (summary["status"], summary["continued"], len(requests)) == ("partial", False, 1)
        assert filled.sql("select continued_at from runs") == [[None]]
    assert filled.process()["status"] == "done"


def test_without_a_gateway_the_next_run_continues(filled: Stack) -> None:
    with application(filled, Slow, **SMALL) as app:
        assert run(app)["continued"] is False
    assert filled.process()["status"] == "done"


def test_scheduled_runs_finish_the_work_of_lost_continuations(filled: Stack) -> None:
    """Each run continues where the last one ended, whatever its trigger."""
    added, passes = 0, 0
    with gateway(202) as (url, requests), application(filled, Slow, gateway_url=url, **SMALL) as app:
        while added < PEOPLE:
            passes += 1
            assert passes < 20
            added += run(app, Trigger.CRON)["added"]
        assert len(requests) == 1  # a continuation counts as queued for a minute
    assert passes > 1
    assert filled.process()["unchanged"] == PEOPLE


def test_a_since_in_the_future_counts_as_now(filled: Stack) -> None:
    """Otherwise a run would scan the same segments forever."""
    with application(filled) as app:
        summary = run(app, Trigger.CONTINUATION, since=10**17)
        assert (summary["status"], summary["segments"]["scanned"], summary["added"]) == ("done", 1, PEOPLE)


def test_a_run_without_progress_is_not_continued(filled: Stack) -> None:
    failing = type("Failing", (Failing,), {"starts": frozenset([""])})
    with gateway(202) as (url, requests), application(filled, failing, gateway_url=url) as app:
        summary = run(app)
        assert (summary["status"], summary["continued"], summary["segments"]["remaining"]) == ("partial", False, 1)
        assert not requests


def test_continuations_keep_accept_empty(filled: Stack) -> None:
    with gateway(202) as (url, requests), application(filled, Slow, gateway_url=url, **SMALL) as app:
        assert run(app, accept_empty=True)["continued"]
        assert requests[0][0].endswith("&accept_empty=1")


def change_after_slow_export(rollcall: Stack, written_at: str) -> None:
    """Upload a changed person after an export that took two seconds and ended at `written_at`, an SQL expression."""
    rollcall.bucket.put_person("1")
    rollcall.process()
    rollcall.sql(f"update outputs set seconds = 2, written_at = {written_at}")
    rollcall.bucket.put_person("1", last="Changed")


def test_events_do_not_repeat_a_slow_export(rollcall: Stack) -> None:
    change_after_slow_export(rollcall, "clock_timestamp() - interval '15 seconds'")
    output = rollcall.event("1.csv").json()["output"]
    assert (output["written"], output["pending"], output["rows"]) == (False, True, 1)
    assert b"Changed" not in rollcall.bucket.read("output.csv")
    rollcall.sql("update outputs set written_at = clock_timestamp() - interval '21 seconds'")
    output = rollcall.event("1.csv").json()["output"]
    assert (output["written"], output["pending"]) == (True, False)
    assert b"Changed" in rollcall.bucket.read("output.csv")


def test_a_clock_set_back_does_not_delay_the_export(rollcall: Stack) -> None:
    change_after_slow_export(rollcall, "clock_timestamp() + interval '1 day'")
    assert rollcall.event("1.csv").json()["output"]["written"]


def test_a_full_run_that_scanned_everything_always_exports(rollcall: Stack) -> None:
    change_after_slow_export(rollcall, "clock_timestamp()")
    assert rollcall.event("1.csv").json()["output"]["pending"]
    summary = rollcall.process()
    assert (summary["status"], summary["unchanged"], summary["output"]["written"]) == ("done", 1, True)
    assert b"Changed" in rollcall.bucket.read("output.csv")


def test_an_erasure_always_exports(rollcall: Stack) -> None:
    """Otherwise output.csv would still contain the person."""
    change_after_slow_export(rollcall, "clock_timestamp()")
    summary = rollcall.erase("1")
    assert (summary["status"], summary["output"]["written"], summary["output"]["rows"]) == ("done", True, 0)
    assert rollcall.bucket.read_rows("output.csv") == []


def test_a_partial_run_postpones_a_slow_export(filled: Stack) -> None:
    filled.process()
    filled.sql("update users set csv_etag = ''")
    filled.sql("update outputs set seconds = 2, written_at = clock_timestamp(), changed = changed + 1")
    with application(filled, Slow, **SMALL) as app:
        summary = run(app)
    assert (summary["status"], summary["output"]["written"], summary["output"]["pending"]) == ("partial", False, True)


def test_an_export_that_exceeds_the_remaining_time_is_left_to_the_continuation(filled: Stack) -> None:
    """The continuation has no other work, so its whole time is left for the export."""
    with (
        gateway(202) as (url, requests),
        application(filled, Slow, gateway_url=url, fetch_threads="2", run_deadline="5") as app,
    ):
        filled.sql("update outputs set seconds = 3000, written_at = clock_timestamp()")
        summary = run(app)
        assert (summary["status"], summary["segments"]["remaining"], summary["continued"]) == ("partial", 0, True)
        assert summary["output"] == {"object": "res/output.csv", "rows": 0, "written": False, "pending": True}
        summary = run(app, Trigger.CONTINUATION, since=since(requests[0][0]))
        assert (summary["status"], summary["output"]["written"], summary["output"]["rows"]) == ("done", True, PEOPLE)
        assert len(requests) == 1


def test_the_output_includes_all_concurrent_events(filled: Stack) -> None:
    filled.process()
    users = [f"{number:03}" for number in range(0, PEOPLE, 3)]

    def change(user: str) -> int:
        filled.bucket.put_person(user, last="Changed")
        return filled.event(f"{user}.csv").status

    with ThreadPoolExecutor(8) as executor:
        assert set(executor.map(change, users)) == {200}
    filled.wait_until(lambda: filled.bucket.read("output.csv").count(b"Changed") == len(users))
    assert filled.sql("select count(*) from hints") == [[0]]


def test_a_continuation_sends_a_token_of_any_characters(filled: Stack) -> None:
    settings = {"auth": "token", "api_token": "p€ssword", **SMALL}
    with gateway(202) as (url, requests), application(filled, Slow, gateway_url=url, **settings) as app:
        assert run(app)["continued"]
        [(_, authorization)] = requests
        assert has_access(Event(headers={"Authorization": str(authorization)}), app.settings)
