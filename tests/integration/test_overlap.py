"""Runs at the same time: the same one once, others side by side, and the newest state wins."""

import csv
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from process_data.deadline import Deadline
from process_data.fetch import Fetched
from process_data.parse import parse
from process_data.pipeline import Run
from process_data.rejection import Reason, Rejection
from process_data.request import Request
from process_data.settings import Settings
from process_data.shared.storage.errors import Refused, Unavailable
from process_data.shared.storage.objects import Objects, Page
from process_data.shared.storage.records import Connection
from process_data.shared.storage.settings import RecordsSettings, load
from process_data.store import store

from tests.stack import Stack


@pytest.fixture
def settings(stack: Stack) -> Settings:
    return load(Settings, stack.process_settings)


def run(
    settings: Settings, objects: Objects, *prefixes: str, trigger: str = "http", seconds: float = 60
) -> dict[str, Any]:
    request = Request(trigger, None, prefixes or ("",))  # type: ignore[arg-type]
    return Run(settings, objects, request, Deadline(seconds, threading.Event())).answer()


class Paused(Objects):
    """S3 whose answer to the first GET is held back until `go` is set."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, connections=8)
        self.reached, self.go = threading.Event(), threading.Event()

    def get(self, *arguments: Any, **named: Any) -> Any:
        answer = super().get(*arguments, **named)
        if not self.reached.is_set():
            self.reached.set()
            assert self.go.wait(30)
        return answer


def test_eight_runs_at_once_lose_nothing(roll: Stack) -> None:
    def put(number: int) -> None:
        roll.bucket.put_person(f"{number:04}", birthts=number)

    with ThreadPoolExecutor(12) as executor:
        list(executor.map(put, range(800)))
        prefixes = ("", "", "", "0", "00", "01", "02", "07")
        futures = [
            executor.submit(roll.request, "POST", f"/function/process-data?prefix={prefix}") for prefix in prefixes
        ]
        futures += [executor.submit(roll.event, f"{number:04}.csv", f"{number:04}.png") for number in (5, 500, 799)]
        for number in (0, 100, 799):
            roll.bucket.put_person(f"{number:04}", birthts=-number - 1)
        answers = [future.result() for future in futures]
    assert {answer.status for answer in answers} <= {200, 409}
    for answer in answers:
        if answer.status == 409:
            assert answer.json()["error"]["code"] == "already_running"
            assert int(answer.headers["Retry-After"]) > 0
    roll.process()
    births = {f"{number:04}": number for number in range(800)} | {"0000": -1, "0100": -101, "0799": -800}
    assert dict(roll.sql("select user_id, birthts from users")) == births
    output = csv.DictReader(io.StringIO(roll.bucket.read("output.csv").decode()))
    assert {row["user_id"]: int(row["birthts"]) for row in output} == births


def test_the_same_run_twice_is_done_once(roll: Stack, settings: Settings) -> None:
    roll.bucket.put_person("1")
    slow = Paused(settings)
    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(run, settings, slow)
        assert slow.reached.wait(30)
        second = roll.request("POST", "/function/process-data")
        other = roll.request("POST", "/function/process-data?prefix=2")
        slow.go.set()
        assert first.result()["added"] == 1
    assert (second.status, other.status) == (409, 200)
    assert roll.sql("select count(*), count(finished_at) from runs") == [[2, 2]]
    assert roll.process()["unchanged"] == 1


def test_a_run_with_an_old_view_sees_that_another_wrote_meanwhile(roll: Stack, settings: Settings) -> None:
    """It has read version 1 and seen no photo; all that another run saw later must stand in the end."""
    roll.bucket.put_person("1", last="First")
    roll.bucket.put("2.csv", b"")
    slow = Paused(settings)
    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(run, settings, slow)
        assert slow.reached.wait(30)
        roll.bucket.put_person("1", last="Second")
        roll.bucket.put("1.png", b"photo")
        roll.bucket.put_person("2", last="Mended")
        assert roll.event("1.csv", "1.png", "2.csv").status == 200
        slow.go.set()
        summary = first.result()
    assert summary["remaining"] == 0
    assert roll.sql("select user_id, last_name, img_path from users order by user_id") == [
        ["1", "Second", "src/1.png"],
        ["2", "Mended", None],
    ]
    assert roll.sql("select count(*) from rejected") == [[0]]
    assert b"First" not in roll.bucket.read("output.csv")


def test_a_deadline_ends_a_run_in_good_order(roll: Stack, settings: Settings) -> None:
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda number: roll.bucket.put_person(f"{number:04}"), range(1200)))
    slow = Paused(settings)
    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(run, settings, slow, seconds=2)
        assert slow.reached.wait(30)
        threading.Timer(2, slow.go.set).start()
        summary = first.result()
    assert (summary["status"], summary["added"], summary["remaining"]) == ("partial", 500, 700)
    assert summary["output"]["rows"] == 500
    assert roll.sql("select status from runs") == [["partial"]]
    rest = roll.process()
    assert (rest["status"], rest["added"], rest["unchanged"]) == ("done", 700, 500)


def test_a_run_whose_time_is_over_with_the_listing_takes_in_a_batch(roll: Stack, settings: Settings) -> None:
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda number: roll.bucket.put_person(f"{number:04}"), range(600)))
    summary = run(settings, Objects(settings, connections=8), seconds=0.001)
    assert (summary["status"], summary["added"], summary["remaining"]) == ("partial", 500, 100)


def test_an_object_that_can_not_be_had_holds_up_no_other(roll: Stack, settings: Settings) -> None:
    away = Objects(load(Settings, {**roll.process_settings, "s3_endpoint": "127.0.0.1:1"}))

    class Unreachable(Objects):
        def get(self, bucket: str, key: str, *, limit: int) -> Any:
            return away.get(bucket, key, limit=limit) if key == "0001.csv" else super().get(bucket, key, limit=limit)

    for number in range(3):
        roll.bucket.put_person(f"{number:04}")
    summary = run(settings, Unreachable(settings))
    assert (summary["status"], summary["added"], summary["remaining"]) == ("partial", 2, 1)
    assert roll.process()["added"] == 1


def test_a_few_that_can_not_be_had_hold_up_none_behind_them(roll: Stack, settings: Settings) -> None:
    bad = {"0001.csv", "0002.csv", "0003.csv"}

    class Broken(Objects):
        def get(self, bucket: str, key: str, *, limit: int) -> Any:
            if key in bad:
                raise Unavailable("s3", f"S3 answered 500 for {key}")
            return super().get(bucket, key, limit=limit)

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda number: roll.bucket.put_person(f"{number:04}"), range(600)))
    summary = run(settings, Broken(settings, connections=8))
    assert (summary["status"], summary["added"], summary["remaining"]) == ("partial", 597, 3)


def test_what_was_taken_in_before_s3_refused_is_written(roll: Stack, settings: Settings) -> None:
    class Refusing(Objects):
        def get(self, bucket: str, key: str, *, limit: int) -> Any:
            raise Refused("s3", f"S3 answered 403 for {key}")

    roll.bucket.put_person("1")
    roll.process()
    roll.bucket.put("1.png", b"photo")
    for number in range(2, 6):
        roll.bucket.put_person(str(number))
    with pytest.raises(Refused):
        run(settings, Refusing(settings))
    assert b"1,Ada,Lovelace,0,src/1.png" in roll.bucket.read("output.csv")


def test_a_run_that_is_tried_again_is_under_way_for_the_others(roll: Stack, settings: Settings) -> None:
    class Blinking(Objects):
        statuses: ClassVar[list[Any]] = []

        def pages(self, bucket: str, prefix: str = "") -> Iterator[Page]:
            self.statuses.append(roll.sql("select status, finished_at, error from runs"))
            if len(self.statuses) == 1:
                raise Unavailable("s3", "away for a moment")
            return super().pages(bucket, prefix)

    assert run(settings, Blinking(settings))["status"] == "done"
    assert Blinking.statuses == [[["running", None, None]]] * 2


def test_runs_that_refuse_and_forgive_the_same_files_crosswise_do_not_wait_for_each_other(roll: Stack) -> None:
    """Each has forgiven one file, and now refuses the one that the other forgave."""
    forgiven = threading.Barrier(2)

    class Meeting(Connection):
        def run(self, sql: str, **parameters: object) -> list[list[Any]]:
            if "json_to_recordset" in sql:
                with suppress(threading.BrokenBarrierError):
                    forgiven.wait(1)
            return super().run(sql, **parameters)

    def take_in(good: str, bad: str) -> None:
        with Meeting(load(RecordsSettings, roll.process_settings)) as records:
            records.run("create temp table photos (user_id text, path text)")
            batch: list[Fetched | Rejection] = [
                Fetched(f"{good}.csv", b"first_name,last_name,birthts\nA,B,0\n", good, datetime.now(UTC)),
                Rejection(f"{bad}.csv", "new", None, Reason.EMPTY, "empty"),
            ]
            store(records, parse(batch, datetime.now(UTC)))

    for key in ("1.csv", "2.csv"):
        roll.bucket.put(key, b"")
    roll.process()
    with ThreadPoolExecutor(2) as executor:
        for one in [executor.submit(take_in, "1", "2"), executor.submit(take_in, "2", "1")]:
            one.result()


def test_a_run_whose_session_ended_is_recorded_as_failed(roll: Stack) -> None:
    roll.sql("insert into runs (trigger) values ('cron')")
    roll.process()
    assert roll.sql("select status, error from runs order by id") == [
        ["failed", "the process or its session ended"],
        ["done", None],
    ]


def test_a_connection_that_is_lost_is_made_again(roll: Stack, settings: Settings) -> None:
    roll.bucket.put_person("1")
    slow = Paused(settings)
    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(run, settings, slow)
        assert slow.reached.wait(30)
        with Connection(load(RecordsSettings, roll.process_settings)) as other:
            other.run(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'rollcall' and usename = current_user and pid <> pg_backend_pid()"
            )
        slow.go.set()
        assert first.result()["added"] == 1
    assert roll.sql("select status, error from runs") == [["done", None]]
