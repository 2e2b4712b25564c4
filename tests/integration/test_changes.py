"""/changes: a copy that follows the cursors stays exact despite concurrent writes, kills and restores."""

import json
import random
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from process_data import tombstones
from process_data.listing import Listing
from process_data.parse import Row
from process_data.reconcile import reconcile
from process_data.scope import Named
from process_data.shared.storage.errors import Unavailable
from process_data.shared.storage.records import Connection
from process_data.shared.storage.settings import RecordsSettings, load
from process_data.store import store
from process_data.tombstones import Tombstone
from query_data.paging import decode_cursor, encode_cursor

from tests.postgres import client_environment
from tests.replica import Replica, query_replica
from tests.stack import ROOT, Response, Stack

WRITERS = 8
NOW = datetime(2026, 1, 1, tzinfo=UTC)

Follow = Callable[..., str]
People = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def function(stack: Stack, fresh: Callable[[], None]) -> Iterator[Replica]:
    with query_replica(stack) as running:
        yield running


@pytest.fixture
def connection(roll: Stack) -> Iterator[Connection]:
    with connect(roll) as connection:
        yield connection


def connect(stack: Stack) -> Connection:
    return Connection(load(RecordsSettings, stack.process_settings))


def put(connection: Connection, *names: str, prefix: str = "") -> None:
    """Store people as a scan would. Their first name is the prefix and the user_id."""
    rows = [Row(f"{name}.csv", f"{prefix}{name}", NOW, 2, f"{prefix}{name}", "Last", 0) for name in names]
    store(connection, rows, [], {}, "src")


def set_photo(connection: Connection, name: str, photo: str | None) -> None:
    """Reconcile the user with a bucket that has the stored CSV and this photo."""
    [[etag]] = connection.run("select csv_etag from users where user_id = :name", name=name)
    listing = Listing(csvs={name: etag}, photos={name: photo} if photo else {}, keys=1)
    reconcile(connection, Named([f"{name}.csv"]), listing, "src", 0)


def erase(connection: Connection, *names: str) -> None:
    tombstones.erase(connection, [Tombstone(name, None, None) for name in names], 0)


def changes(function: Replica, query: str = "") -> Any:
    response = function.request("GET", f"/changes{query}")
    assert response.status == 200, response.body
    return response.json()


def user_ids(page: Any) -> list[str]:
    return [person["user_id"] for person in page["result"]]


def example(function: Replica) -> Follow:
    """Return the function `follow` from the README."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    names["URL"] = f"{function.url}/changes"
    follow: Follow = names["follow"]
    return follow


def people(stack: Stack) -> People:
    """Return the people as an exact copy should have them."""
    rows = stack.sql(
        "select row_to_json(person) from "
        "(select id, user_id, first_name, last_name, birthdate, birthts, img_path from users) as person"
    )
    return {person["user_id"]: person for (person,) in rows}


def test_changes_are_listed_in_commit_order(function: Replica, connection: Connection) -> None:
    for name in ("2", "1", "3"):
        put(connection, name)
    page = changes(function)
    assert user_ids(page) == ["2", "1", "3"]
    assert set(page["result"][0]) == {
        "id", "user_id", "first_name", "last_name", "birthdate", "birthts", "img_path",
    }  # fmt: skip
    put(connection, "2", prefix="new")
    set_photo(connection, "1", "1.png")
    page = changes(function, page["next"])
    assert [(person["user_id"], person["first_name"], person["img_path"]) for person in page["result"]] == [
        ("2", "new2", None),
        ("1", "1", "src/1.png"),
    ]


def test_erasures_are_listed_in_commit_order(function: Replica, connection: Connection) -> None:
    put(connection, "1", "2", "3")
    page = changes(function)
    erase(connection, "2", "4")
    put(connection, "1", prefix="new")
    erase(connection, "3")
    expected = [("2", True), ("4", True), ("1", None), ("3", True)]
    following = changes(function, page["next"])["result"]
    assert [(change["user_id"], change.get("deleted")) for change in following] == expected
    assert following[0] == {"user_id": "2", "deleted": True}
    by_page, query = [], f"{page['next']}&limit=1"
    while result := (page := changes(function, query))["result"]:
        by_page += result
        query = page["next"]
    assert by_page == following
    put(connection, "2")
    assert [(change["user_id"], change.get("deleted")) for change in changes(function, page["next"])["result"]] == [
        ("2", None)
    ]
    assert sorted(user_ids(changes(function))) == ["1", "2", "3", "4"]  # each once


def test_writes_without_an_effect_are_not_listed(function: Replica, connection: Connection) -> None:
    put(connection, "1", "2")
    set_photo(connection, "1", "1.png")
    page = changes(function)
    rows = [Row("1.csv", "another etag", NOW, 2, "1", "Last", 0)]
    assert store(connection, rows, [], {"1": "1.png"}, "src").unchanged == 1
    set_photo(connection, "1", "1.png")
    assert changes(function, page["next"])["result"] == []


def test_a_batch_that_changes_one_row_reports_only_that_row(function: Replica, connection: Connection) -> None:
    put(connection, "1", "2", "3")
    page = changes(function)
    rows = [Row(f"{name}.csv", "new", NOW, 2, "new" if name == "2" else name, "Last", 0) for name in ("1", "2", "3")]
    stored = store(connection, rows, [], {}, "src")
    assert (stored.updated, stored.unchanged) == (1, 2)
    assert user_ids(changes(function, page["next"])) == ["2"]


def test_every_page_has_next(function: Replica, connection: Connection) -> None:
    page = changes(function)
    assert page["result"] == []
    again = changes(function, page["next"])
    assert (again["result"], again["next"]) == ([], page["next"])
    put(connection, "1")
    page = changes(function, page["next"])
    assert user_ids(page) == ["1"]
    for _ in range(2):
        page = changes(function, page["next"])
        assert page["result"] == []


def test_one_commit_can_span_several_pages(function: Replica, connection: Connection) -> None:
    put(connection, *(str(number) for number in range(7)))
    page: dict[str, Any] = {"next": "?limit=3"}
    listed: list[str] = []
    while not listed or page["result"]:
        page = changes(function, page["next"])
        assert len(page["result"]) <= 3
        assert "limit=3" in page["next"]
        listed += user_ids(page)
    assert listed == [str(number) for number in range(7)]


def test_ndjson_ends_with_next(function: Replica, connection: Connection) -> None:
    put(connection, "1", "2")
    for response in (
        function.request("GET", "/changes?format=ndjson"),
        function.request("GET", "/changes", Accept="application/x-ndjson"),
    ):
        assert response.headers["Content-Type"] == "application/x-ndjson"
        *people, last = [json.loads(line) for line in response.body.splitlines()]
        assert user_ids({"result": people}) == ["1", "2"]
        assert list(last) == ["next"]
        assert changes(function, last["next"].replace("format=ndjson", ""))["result"] == []


def error(response: Response) -> tuple[int, str]:
    return response.status, response.json()["error"]["code"]


def test_other_formats_and_parameters_are_errors(function: Replica) -> None:
    assert error(function.request("GET", "/changes?format=csv")) == (400, "bad_parameter")
    assert error(function.request("GET", "/changes", Accept="text/csv")) == (406, "not_acceptable")
    assert error(function.request("GET", "/changes?limit=1001")) == (400, "bad_parameter")
    assert error(function.request("GET", "/changes?min_age=3")) == (400, "bad_parameter")


@pytest.mark.parametrize(
    "values",
    [
        ["changes"], ["user_id", "1", "1"], ["other", "a", 1, "1"], ["changes", 1, 1, "1"], ["changes", "a", "1", "1"],
        ["changes", "a", -1, "1"], ["changes", "a", 2**63, "1"], ["changes", "a", True, "1"], ["changes", "a", 1, 1],
        ["changes", "a", 1, "x"], ["changes", "a", 1, "1" * 19], {"a": 1}, 1,
    ],
    ids=str,
)  # fmt: skip
def test_a_cursor_with_invalid_values_is_an_error(function: Replica, values: Any) -> None:
    cursor = encode_cursor(values)
    assert error(function.request("GET", f"/changes?after={cursor}")) == (400, "bad_parameter")


@pytest.mark.parametrize("cursor", ["", "x", "é", "W" * 5000])
def test_a_cursor_that_cannot_be_decoded_is_an_error(function: Replica, cursor: str) -> None:
    assert error(function.request("GET", f"/changes?after={quote(cursor)}")) == (400, "bad_parameter")


def test_a_cursor_of_another_database_expires(function: Replica, connection: Connection) -> None:
    put(connection, "1")
    kind, database, number, user_id = decode_cursor(changes(function)["next"].partition("after=")[2], length=4)
    for other in (f"1{database}", ""):
        cursor = encode_cursor([kind, other, number, user_id])
        assert error(function.request("GET", f"/changes?after={cursor}")) == (410, "cursor_expired")


def test_a_cursor_ahead_of_the_database_expires(function: Replica, connection: Connection) -> None:
    put(connection, "1")
    kind, database, number, user_id = decode_cursor(changes(function)["next"].partition("after=")[2], length=4)
    cursor = encode_cursor([kind, database, number + 1, user_id])
    assert error(function.request("GET", f"/changes?after={cursor}")) == (410, "cursor_expired")


@pytest.mark.parametrize("statement", ["truncate users", "vacuum full outputs", "cluster users using users_changed"])
def test_all_cursors_expire_when_the_table_is_replaced(
    function: Replica, roll: Stack, connection: Connection, statement: str
) -> None:
    put(connection, "1")
    page = changes(function)
    roll.sql(statement)
    assert error(function.request("GET", f"/changes{page['next']}")) == (410, "cursor_expired")


def test_no_change_is_skipped_because_of_an_uncommitted_writer(
    function: Replica, roll: Stack, connection: Connection
) -> None:
    """Change numbers follow the commit order: a later writer waits for an earlier one to commit."""
    with connect(roll) as other, ThreadPoolExecutor(1) as executor:
        connection.run("begin")
        put(connection, "1")
        later = executor.submit(put, other, "2")
        time.sleep(0.3)
        page = changes(function)
        assert page["result"] == []
        assert not later.done()
        connection.run("commit")
        later.result()
        assert user_ids(changes(function, page["next"])) == ["1", "2"]


class History:
    """Writers, each with its own users, whose sessions are terminated at random moments; dumps and restores.

    Each write and each erasure is one statement.
    """

    def __init__(self, stack: Stack, function: Replica, directory: Path, seed: str) -> None:
        self._stack, self._random, self._dump = stack, random.Random(seed), directory / "dump"
        self._environment = client_environment(stack.settings)
        self._follow, self._copy, self._after = example(function), People(), ""
        self._stop = threading.Event()

    def run(self) -> None:
        with ThreadPoolExecutor(1) as executor:
            following = executor.submit(self._poll)
            try:
                for step in ("write", self._random.choice(("dump", "write")), "write", "restore", "write"):
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
        self._after = self._follow(self._copy, self._after)

    def _do(self, step: str) -> None:
        if step == "write":
            seeds = [self._random.random() for _ in range(WRITERS)]
            with ThreadPoolExecutor(WRITERS) as executor:
                list(executor.map(self._write, range(WRITERS), seeds))
        elif step == "dump":
            self._run("pg_dump", "--format", "custom", "--file", str(self._dump))
        elif self._dump.exists():
            with_schema = ["--clean", "--if-exists", "--single-transaction", "--exit-on-error"]
            self._run("pg_restore", *with_schema, "--dbname", self._environment["PGDATABASE"], str(self._dump))

    def _run(self, *command: str) -> None:
        subprocess.run(command, env=self._environment, check=True, capture_output=True, timeout=60)

    def _write(self, writer: int, seed: float) -> None:
        moments = random.Random(seed)
        users = [f"{writer}{number}" for number in range(4)]
        for _ in range(3):
            with suppress(Unavailable), connect(self._stack) as connection, ThreadPoolExecutor(1) as executor:
                [[pid]] = connection.run("select pg_backend_pid()")
                if moments.random() < 0.3:
                    executor.submit(self._terminate, pid, moments.uniform(0, 0.01))
                names = moments.sample(users, moments.randint(1, 4))
                put(connection, *names, prefix=str(moments.randint(0, 3)))
                set_photo(connection, names[0], moments.choice((None, f"{names[0]}.png")))
                if moments.random() < 0.5:
                    erase(connection, *moments.sample(users, moments.randint(1, 4)))

    def _terminate(self, pid: int, seconds: float) -> None:
        time.sleep(seconds)
        self._stack.sql("select pg_terminate_backend(:pid)", pid=pid)


def test_a_consumer_stays_an_exact_copy_despite_writers_kills_and_restores(
    function: Replica, roll: Stack, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    for number in range(request.config.getoption("--histories")):
        directory = tmp_path / str(number)
        directory.mkdir()
        History(roll, function, directory, f"{seed} {number}").run()
