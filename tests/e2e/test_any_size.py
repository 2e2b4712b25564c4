"""A bucket that is too large for one run is loaded by one request, through the gateway's queue."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stack import Stack

PEOPLE = 4_000  # more than most machines load in two runs of one second
USER_IDS = [f"{number:05}" for number in range(PEOPLE)]


@contextmanager
def started(stack: Stack, monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[Stack]:
    """Run the stack with these variables of stack.yml. The default of RUN_DEADLINE is one second here."""
    with monkeypatch.context() as patch:
        for name, value in {"RUN_DEADLINE": "1", **variables}.items():
            patch.setenv(name, value)
        stack.cli("up", "--detach", "--port", "0", "--no-sample")
    restarted = Stack(stack.state)  # the cached settings have the old ports
    try:
        yield restarted
    finally:
        restarted.cli("down")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of a stopped stack, with the CSVs of all users in its source bucket."""
    stack = Stack(tmp_path_factory.mktemp("size") / "state")
    try:
        with pytest.MonkeyPatch.context() as patch, started(stack, patch) as running:
            running.bucket.put_people(USER_IDS)
        yield stack.state
    finally:
        stack.remove()


def is_loaded(stack: Stack) -> bool:
    [[count]] = stack.sql("select count(*) from users")
    [[pending, running]] = stack.sql(
        "select (select count(*) from outputs where changed <> written), "
        "(select count(*) from runs where finished_at is null)"
    )
    return (count, pending, running) == (PEOPLE, 0, 0)


def check_complete(stack: Stack) -> None:
    assert [user_id for (user_id,) in stack.sql("select user_id from users order by user_id")] == USER_IDS
    output = stack.bucket.read("output.csv").decode().splitlines()
    assert [line.partition(",")[0] for line in output[1:]] == USER_IDS
    summary = stack.process()
    assert (summary["added"], summary["updated"]) == (0, 0)


def test_one_request_loads_the_whole_bucket(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(Stack(state), monkeypatch) as stack:
        stack.reset_tables()
        first = stack.process()
        assert (first["status"], first["continued"]) == ("partial", True)
        stack.wait_until(lambda: is_loaded(stack))
        check_complete(stack)
        runs = stack.sql("select trigger, status, (summary ->> 'added')::int from runs order by id")
        continuations = [run for run in runs if run[0] == "continuation"]
        assert len(continuations) >= 2
        assert sum(added for *_, added in runs) == PEOPLE  # each user was added by exactly one run
        assert {status for _, status, _ in runs} <= {"done", "partial"}


def test_overlapping_runs_of_a_fan_out_load_the_whole_bucket(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With a deadline of 1 s, S3 may not respond in time to one of two simultaneous runs on a slow machine, and a run
    # without progress queues no continuation.
    with started(Stack(state), monkeypatch, REPLICAS="2", RUN_DEADLINE="3") as stack:
        stack.reset_tables()
        response = stack.request("POST", "/function/process-data?fan_out=2")
        assert (response.status, len(response.json()["runs"])) == (202, 2)
        stack.wait_until(lambda: is_loaded(stack))
        check_complete(stack)
        [[overlapping]] = stack.sql(
            "select count(*) from runs a join runs b on a.id < b.id and b.started_at < a.finished_at"
        )
        assert overlapping > 0
        assert stack.sql("select sum((summary ->> 'added')::int) from runs") == [[PEOPLE]]
