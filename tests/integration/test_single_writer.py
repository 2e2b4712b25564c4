"""Each segment has one writer at a time, however many runs share a bucket."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.errors import Unavailable

from tests.changes import erase, put
from tests.rows import exported, rows
from tests.runs import Paused, application, end_scans, paused_run, put_people, run
from tests.s3_proxy import counting
from tests.stack import HANG_TIMEOUT, Stack, connected


def test_only_the_lock_holder_can_write_and_a_lost_lock_prevents_the_commit(rollcall: Stack) -> None:
    """The holder fetches the older version. Then its session ends, and another run reads the newer version."""
    rollcall.bucket.put_person("1", last="Older")
    with paused_run(rollcall, run_deadline="2") as (go, holder):
        rollcall.bucket.put_person("1", last="Newer")
        [[before]] = rollcall.sql("select count(*) from users")
        assert rollcall.event("1.csv").json()["remaining"] == 1  # the segment is locked, so the event leaves a hint
        end_scans(rollcall)
        assert rollcall.process()["added"] == 1
        time.sleep(2)  # until the holder has no time for another attempt
        go.set()
        with pytest.raises(Unavailable):
            holder.result()
    assert before == 0
    assert rollcall.sql("select last_name from users") == [["Newer"]]
    assert b"Older" not in rollcall.bucket.read("output.csv")


def test_one_more_scan_serves_all_concurrent_runs(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    with ExitStack() as exits:
        endpoint, requests = exits.enter_context(counting(rollcall.process_settings["s3_endpoint"]))
        app = exits.enter_context(application(rollcall, Paused, s3_endpoint=endpoint))
        executor = exits.enter_context(ThreadPoolExecutor(9))
        paused: Any = app.objects
        first = executor.submit(run, app)
        assert paused.reached.wait(HANG_TIMEOUT)
        others = [executor.submit(run, app) for _ in range(8)]
        rollcall.wait_until(lambda: rollcall.sql("select count(*) from runs where status = 'running'") == [[9]])
        paused.go.set()
        summaries = [call.result() for call in (first, *others)]
    assert {summary["status"] for summary in summaries} == {"done"}
    assert sum(summary["added"] for summary in summaries) == 1
    assert requests["LIST"] <= 3  # a third only if a run gets its tick (a logical time) after the second scan began
    assert requests["GET"] == 1


def test_two_replicas_share_a_bucket_without_duplicate_work(rollcall: Stack) -> None:
    user_ids = put_people(rollcall, range(600))
    with counting(rollcall.process_settings["s3_endpoint"]) as (endpoint, requests):
        settings = {"segment_keys": "20", "batch_size": "10", "workers": "3", "s3_endpoint": endpoint}
        with (
            application(rollcall, **settings) as first,
            application(rollcall, **settings) as second,
            ThreadPoolExecutor(2) as executor,
        ):
            summaries = list(executor.map(run, (first, second)))
    assert [summary["status"] for summary in summaries] == ["done", "done"]
    assert sum(summary["added"] for summary in summaries) == requests["GET"] == len(user_ids)
    assert all(summary["added"] > 100 for summary in summaries)
    assert rows(rollcall) == user_ids
    assert exported(rollcall) == user_ids


def test_a_full_run_completes_during_a_steady_stream_of_events(rollcall: Stack) -> None:
    user_ids = put_people(rollcall, range(200))
    stopped = threading.Event()

    def change() -> int:
        sent = 0
        while not stopped.is_set():
            user = user_ids[sent % 20]
            rollcall.bucket.put_person(user, birthts=sent)
            assert rollcall.event(f"{user}.csv").status == 200
            sent += 1
        return sent

    with application(rollcall, segment_keys="20") as app, ThreadPoolExecutor(1) as executor:
        events = executor.submit(change)
        try:
            summaries = [run(app) for _ in range(5)]
        finally:
            stopped.set()
        assert events.result() > 5
    assert [summary["status"] for summary in summaries] == ["done"] * 5
    assert rollcall.process()["added"] == 0
    assert rollcall.sql("select count(*) from hints") == [[0]]


@pytest.mark.parametrize("held_index", [0, 1])
@pytest.mark.parametrize("write", [lambda session: put(session, "1"), lambda session: erase(session, "2")])
def test_writers_lock_the_outputs_in_a_fixed_order(
    rollcall: Stack, connection: Connection, write: Callable[[Connection], None], held_index: int
) -> None:
    """Otherwise two writers could deadlock. Each `write` here changes what all three outputs contain."""
    waiting_sessions = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    lock = "select from outputs where object = :object for update nowait"
    names = ("output.csv", "rejected.csv", "erased.csv")
    erase(connection, "1")
    rollcall.sql(
        "insert into rejected (object, etag, code, message) "
        "select user_id || '.csv', '', 'empty', '' from unnest(array['1', '2']) as user_id"
    )
    before = rollcall.sql("select object, changed from outputs")
    with connected(rollcall.settings) as other, ThreadPoolExecutor(1) as executor:
        other.run("begin")
        other.run(lock, object=names[held_index])
        future = executor.submit(write, connection)
        rollcall.wait_until(lambda: rollcall.sql(waiting_sessions) == [[1]])
        for name in names[held_index + 1 :]:
            other.run(lock, object=name)
        other.run("rollback")
        future.result()
    assert sorted(rollcall.sql("select object, changed - 1 from outputs")) == sorted(before)


def test_sessions_have_timeouts_for_vanished_and_frozen_clients(rollcall: Stack) -> None:
    with application(rollcall) as app, app.pool.connection() as session:
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout",
                 "idle_session_timeout", "idle_in_transaction_session_timeout")  # fmt: skip
        values = [session.run(f"show {name}")[0][0] for name in names]
        assert values == ["20", "10", "3", "60000", "1min", "1min"]
