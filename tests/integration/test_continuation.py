"""A partial run queues its continuation, and events do not repeat a slow export at once."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import pytest
from process_data import continuation, locks, outputs, runs
from process_data.continuation import NotQueued, queue_run
from process_data.deadline import Deadline
from process_data.handler import _fan_out
from process_data.request import Request
from process_data.runs import Trigger
from process_data.shared.access import has_access

from tests.event import Event
from tests.gateway import serving_gateway
from tests.runs import Failing, Slow, application, proxied, run, set_at_end
from tests.stack import HANG_TIMEOUT, Stack, connected

PEOPLE = 160
SMALL = {"segment_keys": "10", "batch_size": "5", "fetch_threads": "2", "workers": "1", "run_deadline": "1"}

TOKEN_SETTINGS = {"auth": "token", "api_token": "s3cret"}


class SlowGets(Slow):
    """An S3 client so slow that a run with the SMALL settings fetches at most about forty objects."""

    get_seconds = 0.05


@contextmanager
def gateway(status: int, limit: int = 1000) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Run a gateway that returns this status for asynchronous requests, or 429 after `limit` of them.

    Yield its URL and the requests it has received, each as the path and the Authorization header.
    """
    requests: list[tuple[str, str | None]] = []

    def enqueue(path: str, authorization: str | None) -> int:
        requests.append((path, authorization))
        return status if len(requests) <= limit else 429

    with serving_gateway(enqueue) as url:
        yield url, requests


@pytest.fixture
def filled(rollcall: Stack) -> Stack:
    """The stack with people in the bucket and none in the tables."""
    rollcall.bucket.put_people(f"{number:03}" for number in range(PEOPLE))
    return rollcall


def since(path: str) -> int:
    """Return the tick in the path of a continuation: the logical time of the first run."""
    assert path.startswith("/async-function/process-data?since=")
    return int(path.partition("=")[2])


def test_each_partial_run_queues_the_next_continuation(filled: Stack) -> None:
    with (
        gateway(202) as (url, requests),
        application(filled, SlowGets, gateway_url=url, **TOKEN_SETTINGS, **SMALL) as app,
    ):
        summary = run(app)
        assert (summary["status"], summary["continued"]) == ("partial", True)
        assert filled.sql("select status, continued_at is not null from runs") == [["partial", True]]
        [(path, authorization)] = requests
        assert authorization == "Bearer s3cret"
        continuations = 0
        while summary["continued"]:
            continuations += 1
            assert continuations <= PEOPLE  # each run makes progress
            summary = run(app, Trigger.CONTINUATION, since=since(path))
            assert len(requests) == continuations + summary["continued"]
            assert {queued for queued, _ in requests} == {path}  # all with the tick of the first run
        assert continuations > 1
        assert (summary["status"], summary["trigger"], summary["segments"]["remaining"]) == ("done", "continuation", 0)
    assert filled.sql("select count(*) from users") == [[PEOPLE]]


def test_a_second_continuation_is_queued_only_if_the_first_is_lost(filled: Stack) -> None:
    with gateway(202) as (url, requests), application(filled, SlowGets, gateway_url=url, **SMALL) as app:
        assert run(app)["continued"]
        assert not run(app)["continued"]
        assert len(requests) == 1
        filled.sql("update runs set continued_at = now() - interval '2 minutes'")  # as if the continuation were lost
        assert run(app)["continued"]
        assert len(requests) == 2


def test_a_running_continuation_prevents_a_second_one(filled: Stack) -> None:
    longer = SMALL | {"run_deadline": "2"}
    with gateway(202) as (url, requests), application(filled, SlowGets, gateway_url=url, **longer) as app:
        with ThreadPoolExecutor(1) as executor:
            continuation = executor.submit(run, app, Trigger.CONTINUATION, since=0)
            filled.wait_until(lambda: filled.sql("select count(*) from runs where finished_at is null") == [[1]])
            with application(filled, SlowGets, gateway_url=url, **SMALL) as other:  # ends before the continuation
                summary = run(other)
                assert (summary["added"] > 0, summary["continued"]) == (True, False)
            assert continuation.result()["continued"]
        assert len(requests) == 1


def test_a_continuation_queues_another_unless_ten_others_are_queued(filled: Stack) -> None:
    with gateway(202) as (url, requests), application(filled, SlowGets, gateway_url=url, **SMALL) as app:
        # eleven were queued; the next run counts as one of them
        filled.sql(
            "insert into runs (trigger, status, finished_at, continued_at) "
            "select 'continuation', 'partial', now(), now() from generate_series(1, 11)"
        )
        filled.sql("update runs set started_at = now() - interval '5 minutes'")
        assert not run(app, Trigger.CONTINUATION, since=0)["continued"]
        # ten are left, and the next run counts as one of them
        filled.sql("delete from runs where id = 1 or id = (select max(id) from runs)")
        assert run(app, Trigger.CONTINUATION, since=0)["continued"]
        assert len(requests) == 1


def test_finished_continuations_do_not_prevent_new_ones(filled: Stack) -> None:
    with gateway(202) as (url, requests), application(filled, SlowGets, gateway_url=url, **SMALL) as app:
        summary = run(app)
        while summary["continued"]:
            summary = run(app, Trigger.CONTINUATION, since=since(requests[0][0]))
        assert summary["status"] == "done"
        filled.sql("update users set csv_etag = ''")
        record = runs.RunRecord(Trigger.EVENT, None, runs.RunScope.USERS)
        with app.pool.connection() as session, runs.record_run(session, record):  # nor does a run for an event
            assert run(app)["continued"]


def test_a_fan_out_fails_only_if_no_run_is_queued(filled: Stack) -> None:
    with gateway(202, limit=2) as (url, requests), application(filled, gateway_url=url) as app:
        response = _fan_out(app, Request(Trigger.HTTP, fan_out=5))
        assert (response.status_code, len(response.get_json()["runs"]), len(requests)) == (202, 2, 3)
        with pytest.raises(NotQueued) as raised:
            _fan_out(app, Request(Trigger.HTTP, fan_out=5))
        error = raised.value
        assert (error.status, error.code, error.headers) == (503, "gateway_unavailable", {"Retry-After": "30"})


def test_a_gateway_that_does_not_respond_in_time_counts_as_unavailable(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hang(*_: object) -> int:
        released.wait(HANG_TIMEOUT)
        return 202

    monkeypatch.setattr(continuation, "_TIMEOUT", 0.1)
    with (
        serving_gateway(hang) as url,
        application(rollcall, gateway_url=url) as app,
        set_at_end(released),
        pytest.raises(NotQueued, match=f"{url} cannot be reached"),
    ):
        queue_run(app.settings, 1, accept_empty=False)


@pytest.mark.parametrize("status", [200, 429, 500])
def test_if_the_gateway_queues_nothing_the_next_run_does_the_rest(
    filled: Stack, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    """429 means that the queue is full; 200 comes from a server that is not a gateway."""
    with gateway(status) as (url, requests), application(filled, SlowGets, gateway_url=url, **SMALL) as app:
        summary = run(app, call_id="call 7")
        assert (summary["status"], summary["continued"], len(requests)) == ("partial", False, 1)
        assert filled.sql("select continued_at from runs") == [[None]]
    [logged] = map(json.loads, capsys.readouterr().err.splitlines())
    assert (logged["event"], logged["call_id"]) == ("not_continued", "call 7")
    assert logged["message"].endswith(f"returned {status}")
    assert filled.process()["status"] == "done"


@pytest.mark.parametrize("closes", [False, True], ids=["does not listen", "closes connections without a response"])
def test_without_a_gateway_the_next_run_does_the_rest(filled: Stack, closes: bool) -> None:
    def fail(*_: object) -> int:
        raise ConnectionAbortedError

    with (
        serving_gateway(fail) if closes else nullcontext("http://127.0.0.1:1") as url,
        application(filled, SlowGets, gateway_url=url, **SMALL) as app,
    ):
        assert run(app)["continued"] is False
    assert filled.process()["status"] == "done"


def test_scheduled_runs_finish_the_work_of_lost_continuations(filled: Stack) -> None:
    """Each run starts where the last one ended."""
    added = run_count = 0
    with gateway(202) as (url, requests), application(filled, SlowGets, gateway_url=url, **SMALL) as app:
        while added < PEOPLE:
            run_count += 1
            assert run_count < 20
            added += run(app, Trigger.CRON)["added"]
        assert len(requests) == 1  # the first continuation counts as queued for a minute
    assert run_count > 1
    assert filled.process()["unchanged"] == PEOPLE


def test_a_since_in_the_future_counts_as_now(filled: Stack) -> None:
    """Otherwise the run would scan the same segments again and again."""
    with application(filled) as app:
        summary = run(app, Trigger.CONTINUATION, since=10**17)
        assert (summary["status"], summary["segments"]["scanned"], summary["added"]) == ("done", 1, PEOPLE)


def test_a_run_without_progress_is_not_continued(filled: Stack) -> None:
    failing = type("Failing", (Failing,), {"starts": frozenset([""])})
    with gateway(202) as (url, requests), application(filled, failing, gateway_url=url) as app:
        summary = run(app)
        assert (summary["status"], summary["continued"], summary["segments"]["remaining"]) == ("partial", False, 1)
        assert not requests


def test_continuations_and_runs_of_a_fan_out_keep_accept_empty(filled: Stack) -> None:
    with gateway(202) as (url, requests), application(filled, SlowGets, gateway_url=f"{url}/gateway/", **SMALL) as app:
        assert run(app, accept_empty=True)["continued"]
        _fan_out(app, Request(Trigger.HTTP, fan_out=1, accept_empty=True))
        for path, authorization in requests:
            path, _, value = path.removeprefix("/gateway").partition("&accept_empty=")
            assert (since(path) > 0, value, authorization) == (True, "1", None)
        assert len(requests) == 2


def change_after_slow_export(rollcall: Stack, written_at: str, output: str = "output.csv") -> None:
    """Record that the output's last export took two seconds and ended at `written_at`, an SQL expression.

    Then upload a changed person.
    """
    rollcall.bucket.put_person("1")
    rollcall.process()
    rollcall.sql("update outputs set seconds = 0")
    rollcall.sql(f"update outputs set seconds = 2, written_at = {written_at} where object = :output", output=output)
    rollcall.bucket.put_person("1", last="Changed")


def test_an_event_exports_only_after_ten_times_the_last_duration(rollcall: Stack) -> None:
    change_after_slow_export(rollcall, "clock_timestamp() - interval '15 seconds'")
    summary = rollcall.event("1.csv").json()
    output = summary["output"]
    assert (summary["status"], output["written"], output["pending"], output["rows"]) == ("done", False, True, 1)
    assert b"Changed" not in rollcall.bucket.read("output.csv")
    rollcall.sql("update outputs set written_at = clock_timestamp() - interval '21 seconds'")
    output = rollcall.event("1.csv").json()["output"]
    assert (output["written"], output["pending"]) == (True, False)
    assert b"Changed" in rollcall.bucket.read("output.csv")


def test_only_an_output_whose_own_export_was_slow_is_paused(rollcall: Stack) -> None:
    rollcall.bucket.put("2.csv", b"no header")
    change_after_slow_export(rollcall, "clock_timestamp()", "rejected.csv")
    rollcall.bucket.put("3.csv", b"no header")
    assert rollcall.event("1.csv", "3.csv").json()["output"]["written"]
    assert b"3.csv" not in rollcall.bucket.read("rejected.csv")
    rollcall.process()
    assert b"3.csv" in rollcall.bucket.read("rejected.csv")


def test_an_event_does_not_wait_while_another_session_exports_slowly(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_after_slow_export(rollcall, "clock_timestamp() - interval '1 hour'")
    monkeypatch.setattr(Deadline, "sleep", lambda *_: pytest.fail("the run waits"))
    with connected(rollcall.settings) as session, application(rollcall) as app:
        session.run("select pg_advisory_lock(:space, 0)", space=locks.EXPORT)
        output = run(app, Trigger.EVENT, keys=("1.csv",))["output"]
        rollcall.sql("update outputs set written = changed")
        unchanged = run(app, Trigger.EVENT, keys=("1.csv",))["output"]
    assert output == {"object": "res/output.csv", "rows": 1, "written": False, "pending": True}
    assert unchanged == output | {"pending": False}


def test_a_clock_set_back_does_not_delay_the_export(rollcall: Stack) -> None:
    change_after_slow_export(rollcall, "clock_timestamp() + interval '1 day'")
    assert rollcall.event("1.csv").json()["output"]["written"]


def test_a_full_run_that_scanned_everything_exports_at_once(rollcall: Stack) -> None:
    change_after_slow_export(rollcall, "clock_timestamp()")
    assert rollcall.event("1.csv").json()["output"]["pending"]
    summary = rollcall.process()
    assert (summary["status"], summary["unchanged"], summary["output"]["written"]) == ("done", 1, True)
    assert b"Changed" in rollcall.bucket.read("output.csv")


def test_an_output_that_takes_a_few_seconds_is_written_once_at_the_end_of_the_run(rollcall: Stack) -> None:
    """The output is behind when the run starts, and the run changes the table again.

    GRACE is enough time to write the output at the end.
    """
    change_after_slow_export(rollcall, "clock_timestamp() - interval '1 hour'")
    rollcall.sql("update outputs set changed = changed + 1 where object = 'output.csv'")
    with proxied(rollcall) as (app, requests):
        assert run(app)["output"]["written"]
    assert requests["PUT"] == 1


def test_an_erasure_always_exports(rollcall: Stack) -> None:
    """Otherwise output.csv would still contain the person."""
    change_after_slow_export(rollcall, "clock_timestamp()")
    summary = rollcall.erase("1")
    assert (summary["status"], summary["output"]["written"], summary["output"]["rows"]) == ("done", True, 0)
    assert rollcall.bucket.read_rows("output.csv") == []


def test_a_partial_run_does_not_repeat_a_slow_export(filled: Stack) -> None:
    filled.process()
    filled.sql("update users set csv_etag = ''")
    filled.sql("update outputs set seconds = 2, written_at = clock_timestamp(), changed = changed + 1")
    with application(filled, SlowGets, **SMALL) as app:
        summary = run(app)
    assert (summary["status"], summary["output"]["written"], summary["output"]["pending"]) == ("partial", False, True)


def test_an_export_that_exceeds_the_remaining_time_is_left_to_the_continuation(
    filled: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The continuation has no segments to scan, so it exports right after its start."""
    with gateway(202) as (url, requests), application(filled, gateway_url=url, run_deadline="60") as app:
        filled.sql("update outputs set seconds = 3000, written_at = clock_timestamp()")
        with monkeypatch.context() as patch:
            patch.setattr(outputs, "_EARLY_FRACTION", 0)  # the run does not count as just started
            summary = run(app)
        assert (summary["status"], summary["segments"]["remaining"], summary["continued"]) == ("partial", 0, True)
        assert summary["output"] == {"object": "res/output.csv", "rows": 0, "written": False, "pending": True}
        summary = run(app, Trigger.CONTINUATION, since=since(requests[0][0]))
        assert (summary["status"], summary["output"]["written"], summary["output"]["rows"]) == ("done", True, PEOPLE)
        assert len(requests) == 1


def test_without_time_to_check_the_output_only_a_full_run_reports_it_as_pending(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full run must not report an unchecked output as current: it may have been removed though no row has changed."""
    rollcall.process()
    rollcall.sql("update outputs set seconds = 1000")  # 3,000 for all three
    monkeypatch.setattr(outputs, "_EARLY_FRACTION", 0)  # the runs do not count as just started
    with application(rollcall, run_deadline="60") as app:
        assert run(app)["output"]["pending"]
        assert not run(app, keys=("1.csv",))["output"]["pending"]
        monkeypatch.setattr(outputs, "GRACE", 3000)  # now an export may end that long after the deadline
        assert not run(app)["output"]["pending"]


def test_the_output_includes_the_changes_of_all_concurrent_events(
    filled: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exports count as cheap here; otherwise there would be a pause after each."""
    monkeypatch.setattr(outputs, "_CHEAP_SECONDS", HANG_TIMEOUT)
    filled.process()
    user_ids = [f"{number:03}" for number in range(0, PEOPLE, 3)]

    with application(filled) as app, ThreadPoolExecutor(8) as executor:

        def change(user_id: str) -> str:
            filled.bucket.put_person(user_id, last="Changed")
            return str(run(app, Trigger.EVENT, keys=(f"{user_id}.csv",))["status"])

        assert set(executor.map(change, user_ids)) <= {"done", "partial"}
    assert filled.bucket.read("output.csv").count(b"Changed") == len(user_ids)
    assert filled.sql("select count(*) from hints") == [[0]]


def test_a_continuation_sends_a_token_that_is_not_ascii(filled: Stack) -> None:
    settings = {"auth": "token", "api_token": "p€ssword", **SMALL}
    with gateway(202) as (url, requests), application(filled, SlowGets, gateway_url=url, **settings) as app:
        assert run(app)["continued"]
        [(_, authorization)] = requests
        assert has_access(Event(headers={"Authorization": str(authorization)}), app.settings)
