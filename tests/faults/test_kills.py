"""After a kill, SIGTERM or a freeze, no user and no file is partly written, and the next runs converge."""

import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.faults.subject import stopped
from tests.rows import COLUMNS
from tests.stack import HANG_TIMEOUT, Stack, running

PEOPLE = 1100  # more than two batches
USER_IDS = [f"{number:04}" for number in range(PEOPLE)]
OLD = ("Old", "Older", "-1")
NEW = ("New", "Lovelace", "0")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A separate stack with 1,100 people, all of them ingested."""
    with running(tmp_path_factory.mktemp("kills") / "state") as stack:
        stack.bucket.put_people(USER_IDS, "New")
        assert stack.process()["added"] == PEOPLE
        yield stack


def make_outdated(stack: Stack) -> None:
    """Make all rows and output.csv outdated, so that the next runs must update them."""
    stack.sql("update users set first_name = 'Old', last_name = 'Older', birthts = -1, csv_etag = ''")
    stack.sql("update outputs set changed = changed + 1 where object = 'output.csv'")


def check_complete(stack: Stack) -> None:
    """Check that no user is missing or partly written in the table or in output.csv."""
    rows = stack.sql("select user_id, first_name, last_name, birthts::text, csv_etag from users order by user_id")
    assert [user_id for user_id, *_ in rows] == USER_IDS
    assert {tuple(person) for _, *person, _ in rows} <= {OLD, NEW}
    assert not [user_id for user_id, first, *_, etag in rows if (first == "Old") != (etag == "")]
    output = stack.bucket.read_rows("output.csv")
    assert list(output[0]) == COLUMNS
    assert [row["user_id"] for row in output] == USER_IDS
    assert {(row["first_name"], row["last_name"], row["birthts"]) for row in output} <= {OLD, NEW}
    assert {row["img_path"] for row in output} == {""}


def check_converges(stack: Stack) -> None:
    """Check that the next runs ingest and export everyone."""
    assert stack.run_until_done()["remaining"] == 0
    check_complete(stack)
    assert stack.sql("select count(*) from users where first_name = 'New'") == [[PEOPLE]]
    assert b"Old" not in stack.bucket.read("output.csv")
    assert stack.sql("select count(*) from runs where finished_at is null") == [[0]]


def wait_for_restart(stack: Stack, component: str, killed_pid: int) -> None:
    deadline = time.monotonic() + HANG_TIMEOUT
    while stack.pid(component) == killed_pid or not servers_respond(stack):
        assert time.monotonic() < deadline, f"{component} did not restart"
        time.sleep(0.1)


def servers_respond(stack: Stack) -> bool:
    try:
        stack.sql("select 1")
        stack.bucket.read("output.csv")
    except Exception:  # noqa: BLE001 - any error of the clients while a server is unavailable
        return False
    return True


@pytest.mark.parametrize(("component", "divisor"), [("process-data", 1), ("postgres", 4), ("seaweedfs", 4)])
def test_a_kill_at_a_random_moment_leaves_no_partial_data(
    loaded: Stack, request: pytest.FixtureRequest, component: str, divisor: int
) -> None:
    seed = request.config.getoption("--seed")
    generator = random.Random(f"{seed} {component}")
    print(f"seed {seed}")  # shown if the test fails
    started_at = time.monotonic()
    make_outdated(loaded)
    check_converges(loaded)
    duration = time.monotonic() - started_at
    for _ in range(request.config.getoption("--kills") // divisor):
        make_outdated(loaded)
        pid = loaded.pid(component)
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(loaded.request, "POST", "/function/process-data")
            time.sleep(generator.uniform(0, duration))
            os.kill(pid, signal.SIGKILL)
            response = future.result()
            assert response.status == 200 or response.is_transient, response.body
        wait_for_restart(loaded, component, pid)
        check_complete(loaded)
        check_converges(loaded)


def test_on_sigterm_the_run_in_progress_returns_its_summary(loaded: Stack) -> None:
    make_outdated(loaded)
    pid = loaded.pid("process-data")
    before = last_run_id(loaded)
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(loaded.request, "POST", "/function/process-data")
        loaded.wait_until(lambda: last_run_id(loaded) > before)
        os.kill(pid, signal.SIGTERM)
        response = future.result()
    assert response.status == 200, response.body
    summary = response.json()
    assert summary["status"] == ("partial" if summary["segments"]["remaining"] else "done")
    [[ingested]] = loaded.sql("select count(*) from users where first_name = 'New'")
    assert ingested >= summary["updated"]  # the run's continuation may have updated more
    check_complete(loaded)
    wait_for_restart(loaded, "process-data", pid)
    check_converges(loaded)


def last_run_id(stack: Stack) -> int:
    [[run_id]] = stack.sql("select max(id) from runs")
    return int(run_id)


@contextmanager
def frozen(stack: Stack, component: str) -> Iterator[None]:
    """Stop all processes of a server with SIGSTOP until the end of the block. Its connections stay open."""
    pids = [stack.pid(component)]
    if component == "postgres":
        pids += [pid for (pid,) in stack.sql("select pid from pg_stat_activity where pid <> pg_backend_pid()")]
    with stopped(pids):
        yield


@pytest.mark.parametrize(
    ("component", "code"), [("postgres", "postgresql_unavailable"), ("seaweedfs", "s3_unavailable")]
)
def test_a_hanging_server_is_reported_and_the_next_runs_complete(loaded: Stack, component: str, code: str) -> None:
    make_outdated(loaded)
    with frozen(loaded, component):
        response = loaded.request("POST", "/function/process-data")
    assert (response.status, response.json().get("error", {}).get("code")) == (503, code)
    check_complete(loaded)
    check_converges(loaded)
