"""A run that could not finish hands on what is left, and an export that costs much is not repeated for little."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from process_data.continuation import NotQueued
from process_data.handler import _fan_out
from process_data.request import Request
from process_data.runs import Trigger
from process_data.shared.storage.objects import Object, Objects

from tests.runs import Failing, application, run
from tests.stack import Stack

PEOPLE = 160
SMALL = {"segment_keys": "10", "batch_size": "5", "fetch_threads": "2", "workers": "1", "run_deadline": "1"}

TOKEN = {"auth": "token", "api_token": "s3cret"}


class Slow(Objects):
    """S3 that takes its time for every object: a run of a second comes to about forty of them."""

    def get(self, bucket: str, key: str, *, limit: int) -> Object:
        threading.Event().wait(0.05)
        return super().get(bucket, key, limit=limit)


@contextmanager
def gateway(status: int, accepted: int = 1000) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A gateway that gives asynchronous requests this status, and what it was asked: path and authorization.

    After `accepted` requests it returns 429.
    """
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(status if len(asked) <= accepted else 429)
            self.send_header("X-Call-Id", f"call {len(asked)}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def people(roll: Stack) -> Stack:
    roll.bucket.put_people(f"{number:03}" for number in range(PEOPLE))
    return roll


def since(path: str) -> int:
    assert path.startswith("/async-function/process-data?since=")
    return int(path.partition("=")[2])


def test_a_partial_run_queues_its_continuation_and_that_one_the_next(people: Stack) -> None:
    with gateway(202) as (url, asked), application(people, Slow, gateway_url=url, **TOKEN, **SMALL) as made:
        summary = run(made)
        assert (summary["status"], summary["continued"]) == ("partial", True)
        assert people.sql("select status, continued_at is not null from runs") == [["partial", True]]
        [(path, authorization)] = asked
        assert authorization == "Bearer s3cret"
        passes = 0
        while summary["continued"]:
            passes += 1
            assert passes < 20
            summary = run(made, Trigger.CONTINUATION, since=since(path))
            assert len(asked) == passes + summary["continued"]
            assert {one for one, _ in asked} == {path}  # all go on with the first one's work
        assert passes > 1
        assert (summary["status"], summary["trigger"], summary["segments"]["remaining"]) == ("done", "continuation", 0)
    assert people.sql("select count(*) from users") == [[PEOPLE]]


def test_another_run_does_not_queue_a_second_continuation(people: Stack) -> None:
    with gateway(202) as (url, asked), application(people, Slow, gateway_url=url, **SMALL) as made:
        assert run(made)["continued"]
        assert not run(made)["continued"]
        assert len(asked) == 1
        people.sql("update runs set continued_at = now() - interval '2 minutes'")  # it was lost
        assert run(made)["continued"]
        assert len(asked) == 2


def test_a_running_continuation_is_continuation_enough(people: Stack) -> None:
    with gateway(202) as (url, asked), application(people, Slow, gateway_url=url, **SMALL) as made:
        with ThreadPoolExecutor(1) as executor:
            other = executor.submit(run, made, Trigger.CONTINUATION, since=0)
            people.wait_until(lambda: people.sql("select count(*) from runs where finished_at is null") == [[1]])
            with application(people, Slow, gateway_url=url, **{**SMALL, "run_deadline": "1"}) as second:
                second.stopping.wait(0.3)
                second.stopping.set()  # it ends before the other one does
                assert not run(second)["continued"]
            assert other.result()["continued"]
        assert len(asked) == 1


def test_a_queue_that_repeats_requests_makes_no_more_than_ten_continuations(people: Stack) -> None:
    with gateway(202) as (url, asked), application(people, Slow, gateway_url=url, **SMALL) as made:
        people.sql(
            "insert into runs (trigger, status, finished_at, continued_at) "
            "select 'continuation', 'partial', now(), now() from generate_series(1, 11)"  # one of them is the run below
        )
        people.sql("update runs set started_at = now() - interval '5 minutes'")
        assert not run(made, Trigger.CONTINUATION, since=0)["continued"]
        people.sql("delete from runs where id = 1")
        assert run(made, Trigger.CONTINUATION, since=0)["continued"]
        assert len(asked) == 1


def test_a_chain_that_has_ended_stands_in_nobodys_way(people: Stack) -> None:
    with gateway(202) as (url, asked), application(people, Slow, gateway_url=url, **SMALL) as made:
        summary = run(made)
        while summary["continued"]:
            summary = run(made, Trigger.CONTINUATION, since=since(asked[0][0]))
        assert summary["status"] == "done"
        people.sql("update users set csv_etag = ''")
        assert run(made)["continued"]


def test_a_fan_out_that_is_queued_in_part_is_queued(people: Stack) -> None:
    with gateway(202, accepted=2) as (url, asked), application(people, gateway_url=url) as made:
        response = _fan_out(made, Request(Trigger.HTTP, fan_out=5))
        assert (response.status_code, len(response.get_json()["runs"]), len(asked)) == (202, 2, 3)
        with pytest.raises(NotQueued):
            _fan_out(made, Request(Trigger.HTTP, fan_out=5))


@pytest.mark.parametrize("status", [429, 500])
def test_a_queue_that_is_full_costs_nothing_but_time(people: Stack, status: int) -> None:
    with gateway(status) as (url, asked), application(people, Slow, gateway_url=url, **SMALL) as made:
        summary = run(made)
        assert (summary["status"], summary["continued"], len(asked)) == ("partial", False, 1)
        assert people.sql("select continued_at from runs") == [[None]]
    assert people.process()["status"] == "done"


def test_a_gateway_that_is_not_there_costs_nothing_but_time(people: Stack) -> None:
    with application(people, Slow, **SMALL) as made:
        assert run(made)["continued"] is False
    assert people.process()["status"] == "done"


def test_what_a_queue_loses_the_schedule_makes_up_for(people: Stack) -> None:
    """Each run goes on where the last one ended, whoever triggers it."""
    added, passes = 0, 0
    with gateway(202) as (url, asked), application(people, Slow, gateway_url=url, **SMALL) as made:
        while added < PEOPLE:
            passes += 1
            assert passes < 20
            added += run(made, Trigger.CRON)["added"]
        assert len(asked) == 1  # within a minute the next one is taken for queued
    assert passes > 1
    assert people.process()["unchanged"] == PEOPLE


def test_a_start_in_the_future_is_taken_for_now(people: Stack) -> None:
    """Otherwise a run would scan for ever what it has scanned."""
    with application(people) as made:
        summary = run(made, Trigger.CONTINUATION, since=10**17)
        assert (summary["status"], summary["segments"]["scanned"], summary["added"]) == ("done", 1, PEOPLE)


def test_a_run_that_achieved_nothing_is_not_continued(people: Stack) -> None:
    failing = type("Failing", (Failing,), {"starts": frozenset([""])})
    with gateway(202) as (url, asked), application(people, failing, gateway_url=url) as made:
        summary = run(made)
        assert (summary["status"], summary["continued"], summary["segments"]["remaining"]) == ("partial", False, 1)
        assert not asked


def test_a_confirmed_empty_bucket_stays_confirmed_for_the_continuation(people: Stack) -> None:
    with gateway(202) as (url, asked), application(people, Slow, gateway_url=url, **SMALL) as made:
        assert run(made, accept_empty=True)["continued"]
        assert asked[0][0].endswith("&accept_empty=1")


def test_an_export_that_takes_long_is_not_repeated_by_events(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    roll.sql("update outputs set seconds = 2, written_at = clock_timestamp() - interval '15 seconds'")
    roll.bucket.put_person("1", last="Changed")
    output = roll.event("1.csv").json()["output"]
    assert (output["written"], output["pending"], output["rows"]) == (False, True, 1)
    assert b"Changed" not in roll.bucket.read("output.csv")
    roll.sql("update outputs set written_at = clock_timestamp() - interval '21 seconds'")
    output = roll.event("1.csv").json()["output"]
    assert (output["written"], output["pending"]) == (True, False)
    assert b"Changed" in roll.bucket.read("output.csv")


def test_an_export_is_not_held_up_by_a_clock_that_was_set_back(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    roll.sql("update outputs set seconds = 2, written_at = clock_timestamp() + interval '1 day'")
    roll.bucket.put_person("1", last="Changed")
    assert roll.event("1.csv").json()["output"]["written"]


def test_a_run_that_is_done_always_exports(roll: Stack) -> None:
    roll.bucket.put_person("1")
    roll.process()
    roll.sql("update outputs set seconds = 2, written_at = clock_timestamp()")
    roll.bucket.put_person("1", last="Changed")
    assert roll.event("1.csv").json()["output"]["pending"]
    summary = roll.process()
    assert (summary["status"], summary["unchanged"], summary["output"]["written"]) == ("done", 1, True)
    assert b"Changed" in roll.bucket.read("output.csv")


def test_a_partial_run_leaves_an_export_that_takes_long(people: Stack) -> None:
    people.process()
    people.sql("update users set csv_etag = ''")
    people.sql("update outputs set seconds = 2, written_at = clock_timestamp(), changed = changed + 1")
    with application(people, Slow, **SMALL) as made:
        summary = run(made)
    assert (summary["status"], summary["output"]["written"], summary["output"]["pending"]) == ("partial", False, True)


def test_an_export_that_needs_more_time_than_is_left_is_left_to_the_continuation(people: Stack) -> None:
    """That one has nothing else to do, so it has all of its time for it."""
    with (
        gateway(202) as (url, asked),
        application(people, Slow, gateway_url=url, fetch_threads="2", run_deadline="5") as made,
    ):
        people.sql("update outputs set seconds = 3000")
        summary = run(made)
        assert (summary["status"], summary["segments"]["remaining"], summary["continued"]) == ("partial", 0, True)
        assert summary["output"] == {"object": "res/output.csv", "rows": 0, "written": False, "pending": True}
        summary = run(made, Trigger.CONTINUATION, since=since(asked[0][0]))
        assert (summary["status"], summary["output"]["written"], summary["output"]["rows"]) == ("done", True, PEOPLE)
        assert len(asked) == 1


def test_many_events_at_once_end_with_an_output_that_has_them_all(people: Stack) -> None:
    people.process()
    users = [f"{number:03}" for number in range(0, PEOPLE, 3)]

    def change(user: str) -> int:
        people.bucket.put_person(user, last="Changed")
        return people.event(f"{user}.csv").status

    with ThreadPoolExecutor(8) as executor:
        assert set(executor.map(change, users)) == {200}
    people.wait_until(lambda: people.bucket.read("output.csv").count(b"Changed") == len(users))
    assert people.sql("select count(*) from hints") == [[0]]
