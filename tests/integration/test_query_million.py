"""A million people: queries use indexes, and streams use little memory."""

import csv
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pg8000.native import to_statement
from query_data import users
from query_data.paging import encode_cursor
from query_data.query import parse_query
from query_data.shared.storage.connection import Connection
from query_data.shared.storage.settings import PostgresSettings, load

from tests.event import Event
from tests.memory import MEBIBYTE, peak_memory
from tests.million import MILLION, fill, user_ids
from tests.replica import query_replica
from tests.stack import Stack


@pytest.fixture(scope="module")
def filled(stack: Stack, reset_stack: Callable[[], None]) -> Iterator[Stack]:
    reset_stack()
    fill(stack)
    yield stack
    reset_stack()


class ExplainingConnection(Connection):
    """Explains statements instead of running them; for prepared statements it requests the generic plan."""

    plan = ""

    def run(self, sql: str, **parameters: object) -> list[list[Any]]:
        self.plan = "\n".join(row[0] for row in super().run(f"explain {sql}", **parameters))
        return [["", 0, "", ""]]  # as for a page without rows

    def run_prepared(self, sql: str, **parameters: object) -> list[list[Any]]:
        return self.run(f"(generic_plan) {to_statement(sql)[0]}")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("min_age=30&max_age=30.01&limit=100", "users_birthdate"),
        ("min_age=150&limit=100", "users_birthdate"),
        ("max_age=0.5&limit=1000", "users_birthdate"),
        ("min_age=30&max_age=40&limit=100&sort=birthdate", "users_birthdate"),
        ("limit=100&sort=-birthdate", "users_birthdate"),
        ("limit=100", "users_user_id_key"),
        ("limit=100&sort=-user_id", "users_user_id_key"),
        ("user_id=1&user_id=000007919", "users_user_id_key"),
        ("limit=100&sort=last_name", "users_last_name"),
        ("limit=100&sort=-last_name", "users_last_name"),
        ("limit=100&name=first 1234", "users_first_name"),
        ("limit=100&name=first 1234", "users_last_name"),
        ("limit=100&name=ŁAST 12345", "users_last_name"),
        ("limit=100&is_image_exists=true", "users_with_photo"),
        ("limit=1000&is_image_exists=false", "users_without_photo"),
    ],
)
def test_every_filter_and_sort_uses_an_index(filled: Stack, query: str, index: str) -> None:
    parsed = parse_query(Event(f"/?{query}"))
    today = datetime.now(UTC).date()
    with closing(ExplainingConnection(load(PostgresSettings, filled.query_settings))) as connection:
        users.read_users(connection, parsed, parsed.limit or 1000, today)
        assert index in connection.plan, connection.plan
        assert "Seq Scan on users" not in connection.plan
        if "sort" in query:  # on the next page, the index scan starts at the cursor
            column = parsed.order.name.strip("-")
            last = {"user_id": "000500000", "birthdate": "2000-01-01", "last_name": "łast 5"}[column]
            cursor = encode_cursor([parsed.order.name, last, "000500000"])
            users.read_users(connection, parse_query(Event(f"/?{query}&after={cursor}")), 100, today)
            condition = r"\(user_id [<>]" if column == "user_id" else r".*ROW\("
            assert re.search(f"Index Cond: {condition}", connection.plan), connection.plan
            assert " Sort" not in connection.plan


def memory(pid: int) -> int:
    """Return the peak memory of a process in bytes, or without /proc its current memory."""
    with suppress(FileNotFoundError):
        return peak_memory(pid)
    return 1024 * int(subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True).stdout)


def json_user_ids(file: Path) -> Iterator[str]:
    """Yield the user_ids in a JSON document, reading one line at a time."""
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            text = line.rstrip("\n")
            text = text.removeprefix('{"result": [') if number == 0 else text
            end = '], "next": null}' if number == MILLION - 1 else ","
            assert text.endswith(end)
            yield json.loads(text.removesuffix(end))["user_id"]


def ndjson_user_ids(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            content = json.loads(line)
            if "next" in content:
                assert (content, next(lines, None)) == ({"next": None}, None)
                return
            yield content["user_id"]
        raise AssertionError("the response is incomplete")


def csv_user_ids(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines, strict=True):
            if row["id"] == "#end":
                assert next(lines, None) is None
                return
            assert len(row) == 8 and None not in row.values()
            yield row["user_id"]
        raise AssertionError("the response is incomplete")


READERS = {"json": json_user_ids, "csv": csv_user_ids, "ndjson": ndjson_user_ids}


def test_three_concurrent_streams_of_a_million_people_are_complete_and_use_little_memory(
    filled: Stack, tmp_path: Path
) -> None:
    url = f"{filled.url}/function/query-data?format="
    curls = [
        subprocess.Popen(["curl", "--silent", "--fail", "--output", tmp_path / name, url + name]) for name in READERS
    ]
    assert [curl.wait(120) for curl in curls] == [0, 0, 0]
    expected = user_ids()
    for name, read in READERS.items():
        assert list(read(tmp_path / name)) == expected
        (tmp_path / name).unlink()
    assert memory(filled.pid("query-data")) < 128 * MEBIBYTE


def test_slow_clients_use_little_extra_memory(filled: Stack) -> None:
    """This needs a new replica, because the peak memory of the running one includes earlier streams."""
    command = ["curl", "--silent", "--limit-rate", "2M", "--max-time", "4", "--output", "/dev/null"]
    with query_replica(filled) as replica:
        before = memory(replica.process.pid)
        curls = [subprocess.Popen([*command, replica.url]) for _ in range(3)]
        assert [curl.wait(60) for curl in curls] == [28, 28, 28]  # curl's status for a timeout
        assert memory(replica.process.pid) < before + 20 * MEBIBYTE
