"""/changes lists changes in commit order, and a consumer that follows its cursors keeps an exact copy."""

import json
import random
import subprocess
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from process_data.parse import Row
from process_data.shared.storage.connection import Connection
from process_data.shared.storage.errors import Unavailable
from process_data.store import store

from tests.changes import NOW, changes, connect, erase, put, set_photo, user_ids
from tests.consumer import People, example, people
from tests.postgres import client_environment
from tests.replica import Replica
from tests.stack import Stack

WRITERS = 8


def test_changes_are_listed_in_commit_order(query_function: Replica, connection: Connection) -> None:
    for user_id in ("2", "1", "3"):
        put(connection, user_id)
    page = changes(query_function)
    assert user_ids(page) == ["2", "1", "3"]
    assert set(page["result"][0]) == {
        "id", "user_id", "first_name", "last_name", "birthdate", "birthts", "img_path",
    }  # fmt: skip
    put(connection, "2", prefix="new")
    set_photo(connection, "1", "1.png")
    page = changes(query_function, page["next"])
    assert [(person["user_id"], person["first_name"], person["img_path"]) for person in page["result"]] == [
        ("2", "new2", None),
        ("1", "1", "src/1.png"),
    ]


def test_erasures_are_listed_in_commit_order(query_function: Replica, rollcall: Stack, connection: Connection) -> None:
    put(connection, "1", "2", "3")
    page = changes(query_function)
    erase(connection, "2", "4")
    put(connection, "1", prefix="new")
    erase(connection, "3")
    expected = [("2", True), ("4", True), ("1", None), ("3", True)]
    in_one_page = changes(query_function, page["next"])["result"]
    assert [(change["user_id"], change.get("deleted")) for change in in_one_page] == expected
    assert in_one_page[0] == {"user_id": "2", "deleted": True}
    rollcall.sql("update erased set erased_at = now() where user_id = '2'")  # moves the row to the table's end
    by_page: list[Any] = []
    page = changes(query_function, f"{page['next']}&limit=1")
    while page["result"] and len(by_page) < 10:
        by_page += page["result"]
        page = changes(query_function, page["next"])
    assert by_page == in_one_page
    put(connection, "2")
    assert [
        (change["user_id"], change.get("deleted")) for change in changes(query_function, page["next"])["result"]
    ] == [("2", None)]
    assert sorted(user_ids(changes(query_function))) == ["1", "2", "3", "4"]  # each user once


def test_writes_without_an_effect_are_not_listed(query_function: Replica, connection: Connection) -> None:
    put(connection, "1", "2")
    set_photo(connection, "1", "1.png")
    page = changes(query_function)
    rows = [Row("1.csv", "another etag", NOW, 2, "1", "Last", 0)]
    assert store(connection, rows, [], {"1": "1.png"}, "src").unchanged == 1
    set_photo(connection, "1", "1.png")
    assert changes(query_function, page["next"])["result"] == []


def test_only_the_changed_row_of_a_batch_is_listed(query_function: Replica, connection: Connection) -> None:
    put(connection, "1", "2", "3")
    page = changes(query_function)
    rows = [
        Row(f"{user_id}.csv", "new", NOW, 2, "new" if user_id == "2" else user_id, "Last", 0)
        for user_id in ("1", "2", "3")
    ]
    stored = store(connection, rows, [], {}, "src")
    assert (stored.updated, stored.unchanged) == (1, 2)
    assert user_ids(changes(query_function, page["next"])) == ["2"]


def test_every_page_has_next(query_function: Replica, connection: Connection) -> None:
    page = changes(query_function)
    assert page["result"] == []
    again = changes(query_function, page["next"])
    assert (again["result"], again["next"]) == ([], page["next"])
    put(connection, "1")
    page = changes(query_function, page["next"])
    assert user_ids(page) == ["1"]
    for _ in range(2):
        page = changes(query_function, page["next"])
        assert page["result"] == []


def test_one_commit_can_span_several_pages(query_function: Replica, rollcall: Stack, connection: Connection) -> None:
    put(connection, *(str(number) for number in range(7)))
    rollcall.sql("update users set csv_modified = now() where user_id = '0'")  # moves the row to the table's end
    page: dict[str, Any] = {"next": "?limit=3"}
    listed: list[str] = []
    while (not listed or page["result"]) and len(listed) < 10:
        page = changes(query_function, page["next"])
        assert len(page["result"]) <= 3
        assert "limit=3" in page["next"]
        listed += user_ids(page)
    assert listed == [str(number) for number in range(7)]


def test_pages_are_in_the_order_of_the_changes_not_of_the_users(
    query_function: Replica, connection: Connection
) -> None:
    for user_id in ("2", "1", "4", "3"):
        put(connection, user_id)
    for user_id in ("4", "3"):
        erase(connection, user_id)
    listed: list[str] = []
    page = changes(query_function, "?limit=1")
    while page["result"] and len(listed) < 10:
        listed += user_ids(page)
        page = changes(query_function, page["next"])
    assert listed == ["2", "1", "4", "3"]


def test_ndjson_ends_with_next(query_function: Replica, connection: Connection) -> None:
    put(connection, "1", "2")
    for response in (
        query_function.request("GET", "/changes?format=ndjson"),
        query_function.request("GET", "/changes", Accept="application/x-ndjson"),
    ):
        assert response.headers["Content-Type"] == "application/x-ndjson"
        *users, last = [json.loads(line) for line in response.body.splitlines()]
        assert [user["user_id"] for user in users] == ["1", "2"]
        assert list(last) == ["next"]
        assert changes(query_function, last["next"].replace("format=ndjson", ""))["result"] == []


def test_a_writer_waits_for_an_uncommitted_one_so_that_no_change_is_skipped(
    query_function: Replica, rollcall: Stack, connection: Connection
) -> None:
    """Change numbers follow the commit order: a later writer waits for an earlier one to commit."""
    with connect(rollcall) as other, ThreadPoolExecutor(1) as executor:
        connection.run("begin")
        put(connection, "1")
        later_put = executor.submit(put, other, "2")
        time.sleep(0.3)
        page = changes(query_function)
        assert page["result"] == []
        assert not later_put.done()
        connection.run("commit")
        later_put.result()
        assert user_ids(changes(query_function, page["next"])) == ["1", "2"]


class History:
    """A random history: concurrent writes, sometimes a dump and a restore, and a consumer that follows /changes.

    Each writer has its own users. Some of the writers' sessions are terminated at random moments.
    """

    def __init__(self, stack: Stack, query_function: Replica, directory: Path, seed: str) -> None:
        self._stack, self._rng, self._dump = stack, random.Random(seed), directory / "dump"
        self._environment = client_environment(stack.settings)
        self._globals, self._copy, self._query = example(), People(), ""
        self._globals["URL"] = f"{query_function.url}/changes"
        self._stop = threading.Event()

    def run(self) -> None:
        with ThreadPoolExecutor(1) as executor:
            following = executor.submit(self._poll)
            try:
                for step in ("write", self._rng.choice(("dump", "write")), "write", "restore", "write"):
                    self._do(step)
            finally:
                self._stop.set()
            following.result()
        self._update()
        assert self._copy == people(self._stack)

    def _poll(self) -> None:
        while not self._stop.wait(0.005):
            self._update()

    def _update(self) -> None:
        self._query = self._globals["follow"](self._copy, self._query)

    def _do(self, step: str) -> None:
        if step == "write":
            seeds = [self._rng.random() for _ in range(WRITERS)]
            with ThreadPoolExecutor(WRITERS) as executor:
                list(executor.map(self._write, range(WRITERS), seeds))
        elif step == "dump":
            self._run("pg_dump", "--format", "custom", "--file", str(self._dump))
        elif self._dump.exists():
            options = ["--clean", "--if-exists", "--single-transaction", "--exit-on-error"]
            self._run("pg_restore", *options, "--dbname", self._environment["PGDATABASE"], str(self._dump))

    def _run(self, *command: str) -> None:
        subprocess.run(command, env=self._environment, check=True, capture_output=True, timeout=60)

    def _write(self, writer: int, seed: float) -> None:
        rng = random.Random(seed)
        users = [f"{writer}{number}" for number in range(4)]
        terminations: list[Future[None]] = []
        for _ in range(3):
            with suppress(Unavailable), connect(self._stack) as connection, ThreadPoolExecutor(1) as executor:
                [[pid]] = connection.run("select pg_backend_pid()")
                if rng.random() < 0.3:
                    terminations.append(executor.submit(self._terminate, pid, rng.uniform(0, 0.01)))
                changed = rng.sample(users, rng.randint(1, 4))
                put(connection, *changed, prefix=str(rng.randint(0, 3)))
                set_photo(connection, changed[0], rng.choice((None, f"{changed[0]}.png")))
                if rng.random() < 0.5:
                    erase(connection, *rng.sample(users, rng.randint(1, 4)))
        for termination in terminations:
            termination.result()  # raises its error, if any

    def _terminate(self, pid: int, delay: float) -> None:
        time.sleep(delay)
        self._stack.sql("select pg_terminate_backend(:pid)", pid=pid)


def test_a_consumer_keeps_an_exact_copy_despite_terminated_sessions_and_restores(
    query_function: Replica, rollcall: Stack, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("--seed")
    print(f"seed {seed}")
    for number in range(request.config.getoption("--histories")):
        directory = tmp_path / str(number)
        directory.mkdir()
        History(rollcall, query_function, directory, f"{seed} {number}").run()
