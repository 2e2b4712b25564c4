"""Promise 3: whatever is killed, and when, no half batch and no half file is seen, and the next run completes."""

import csv
import io
import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.stack import Stack, running

PEOPLE = 2000
BATCH = 500  # process-data's default
SEED = random.SystemRandom().randrange(2**32)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own with 2,000 people, all of them taken in."""
    with running(tmp_path_factory.mktemp("kills") / "state") as own:
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(lambda number: own.bucket.put_person(f"{number:04}", "New"), range(PEOPLE)))
        assert own.process()["added"] == PEOPLE
        yield own


def forget(stack: Stack) -> None:
    """Make the roll old, so that the next run has everything to do."""
    stack.sql("update users set first_name = 'Old', csv_etag = ''")
    stack.sql("update outputs set changed = changed + 1")


def check_whole(stack: Stack) -> None:
    """No half batch in the table, no half file in the bucket."""
    rows = stack.sql("select user_id, first_name from users order by user_id")
    new = [user_id for user_id, name in rows if name == "New"]
    assert [user_id for user_id, _ in rows] == [f"{number:04}" for number in range(PEOPLE)]
    assert len(new) % BATCH == 0
    assert new == [f"{number:04}" for number in range(len(new))]
    output = list(csv.DictReader(io.StringIO(stack.bucket.read("output.csv").decode())))
    assert [row["user_id"] for row in output] == [f"{number:04}" for number in range(PEOPLE)]
    assert {row["last_name"] for row in output} == {"Lovelace"}


def check_settled(stack: Stack) -> None:
    assert stack.settle()["remaining"] == 0
    check_whole(stack)
    assert stack.sql("select count(*) from users where first_name = 'New'") == [[PEOPLE]]
    assert b"Old" not in stack.bucket.read("output.csv")


def wait_for(stack: Stack, part: str, former: int) -> None:
    deadline = time.monotonic() + 60
    while stack.pid(part) == former or not answers(stack):
        assert time.monotonic() < deadline, f"{part} did not come back"
        time.sleep(0.1)


def answers(stack: Stack) -> bool:
    """Whether both stores can be asked."""
    try:
        stack.sql("select 1")
        stack.bucket.read("output.csv")
    except Exception:  # noqa: BLE001 - whatever the clients say while a server is away
        return False
    return True


@pytest.mark.parametrize(("part", "times"), [("process-data", 50), ("postgres", 10), ("seaweedfs", 10)])
def test_a_kill_at_any_moment_leaves_nothing_half_done(loaded: Stack, part: str, times: int) -> None:
    moments = random.Random(f"{SEED} {part}")
    print(f"seed {SEED}")  # shown when the test fails
    begun = time.monotonic()
    forget(loaded)
    check_settled(loaded)
    usual = time.monotonic() - begun
    for _ in range(times):
        forget(loaded)
        pid = loaded.pid(part)
        with ThreadPoolExecutor(1) as executor:
            answer = executor.submit(loaded.request, "POST", "/function/process-data")
            time.sleep(moments.uniform(0, usual))
            os.kill(pid, signal.SIGKILL)
            assert answer.result().status in (200, 502, 503, 504)
        wait_for(loaded, part, pid)
        check_whole(loaded)
        check_settled(loaded)


def test_sigterm_lets_the_request_in_flight_finish_its_batch(loaded: Stack) -> None:
    forget(loaded)
    pid = loaded.pid("process-data")
    with ThreadPoolExecutor(1) as executor:
        answer = executor.submit(loaded.request, "POST", "/function/process-data")
        time.sleep(0.5)
        os.kill(pid, signal.SIGTERM)
        summary = answer.result()
    assert summary.status == 200, summary.body
    told = summary.json()
    assert told["status"] == ("partial" if told["remaining"] else "done")
    assert told["updated"] + told["remaining"] == PEOPLE
    assert loaded.sql("select count(*) from users where first_name = 'New'") == [[told["updated"]]]
    wait_for(loaded, "process-data", pid)
    check_settled(loaded)


@pytest.mark.parametrize(("part", "code"), [("seaweedfs", "s3_unavailable"), ("postgres", "postgresql_unavailable")])
def test_a_server_that_hangs_is_named_and_the_next_run_completes(loaded: Stack, part: str, code: str) -> None:
    forget(loaded)
    pid = loaded.pid(part)
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = loaded.request("POST", "/function/process-data")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (answer.status, answer.json()["error"]["code"]) == (503, code)
    check_whole(loaded)
    check_settled(loaded)
