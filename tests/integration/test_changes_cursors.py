"""Errors of /changes: invalid parameters, and invalid or expired cursors."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from process_data.shared.storage.connection import Connection
from query_data.openapi import openapi
from query_data.paging import decode_cursor, encode_cursor

from tests.changes import changes, put
from tests.postgres_server import promoted_copy
from tests.replica import Replica, query_replica
from tests.stack import Response, Stack


def error(response: Response) -> tuple[int, str]:
    return response.status, response.json()["error"]["code"]


def test_unsupported_formats_and_invalid_parameters_are_errors(query_function: Replica) -> None:
    assert error(query_function.request("GET", "/changes?format=csv")) == (400, "bad_parameter")
    assert error(query_function.request("GET", "/changes", Accept="text/csv")) == (406, "not_acceptable")
    assert error(query_function.request("GET", "/changes?limit=1001")) == (400, "bad_parameter")
    assert error(query_function.request("GET", "/changes?min_age=3")) == (400, "bad_parameter")


@pytest.mark.parametrize(
    "values",
    [
        ["changes"], ["user_id", "1", "1"], ["other", "a", 1, "1"], ["changes", 1, 1, "1"], ["changes", "a", "1", "1"],
        ["changes", "a", -1, "1"], ["changes", "a", 2**63, "1"], ["changes", "a", True, "1"], ["changes", "a", 1, 1],
        ["changes", "a", 1, "x"], ["changes", "a", 1, "1" * 19], {"a": 1}, 1,
    ],
    ids=str,
)  # fmt: skip
def test_a_cursor_with_invalid_values_is_an_error(query_function: Replica, values: Any) -> None:
    cursor = encode_cursor(values)
    assert error(query_function.request("GET", f"/changes?after={cursor}")) == (400, "bad_parameter")


@pytest.mark.parametrize("cursor", ["", "x", "é", "W" * 5000])
def test_a_cursor_that_cannot_be_decoded_is_an_error(query_function: Replica, cursor: str) -> None:
    assert error(query_function.request("GET", f"/changes?after={quote(cursor)}")) == (400, "bad_parameter")


def test_a_cursor_of_another_database_is_expired(query_function: Replica, connection: Connection) -> None:
    put(connection, "1")
    kind, database, number, user_id = decode_cursor(changes(query_function)["next"].partition("after=")[2], length=4)
    for other_database in (f"1{database}", ""):
        cursor = encode_cursor([kind, other_database, number, user_id])
        assert error(query_function.request("GET", f"/changes?after={cursor}")) == (410, "cursor_expired")


def test_a_cursor_identifies_the_cluster_and_the_database(
    query_function: Replica, rollcall: Stack, connection: Connection
) -> None:
    """Without the system identifier, a cursor may be valid in another cluster; without the OID, in another database."""
    put(connection, "1")
    _, database, _, _ = decode_cursor(changes(query_function)["next"].partition("after=")[2], length=4)
    for identifier in (
        "system_identifier from pg_control_system()",
        "oid from pg_database where datname = current_database()",
    ):
        [[value]] = rollcall.sql(f"select {identifier}")
        assert str(value) in database.split("-")


def test_a_cursor_ahead_of_the_database_is_expired(query_function: Replica, connection: Connection) -> None:
    put(connection, "1")
    kind, database, number, user_id = decode_cursor(changes(query_function)["next"].partition("after=")[2], length=4)
    cursor = encode_cursor([kind, database, number + 1, user_id])
    assert error(query_function.request("GET", f"/changes?after={cursor}")) == (410, "cursor_expired")


def test_openapi_documents_the_response_to_expired_cursors() -> None:
    assert "410" in openapi(requires_token=False)["paths"]["/changes"]["get"]["responses"]


@pytest.mark.parametrize("statement", ["truncate users", "vacuum full outputs", "cluster users using users_changed"])
def test_a_cursor_expires_when_the_table_users_or_outputs_is_rewritten(
    query_function: Replica, rollcall: Stack, connection: Connection, statement: str
) -> None:
    put(connection, "1")
    page = changes(query_function)
    rollcall.sql(statement)
    assert error(query_function.request("GET", f"/changes{page['next']}")) == (410, "cursor_expired")


def test_a_cursor_expires_after_a_failover(
    query_function: Replica, rollcall: Stack, connection: Connection, tmp_path: Path
) -> None:
    """The promoted standby may lack the last commits."""
    put(connection, "1")
    page = changes(query_function)
    with (
        promoted_copy(rollcall, tmp_path) as server,
        query_replica(rollcall, postgres_port=str(server.port)) as replica,
    ):
        assert changes(replica)["result"] == page["result"]
        is_checkpoint_pending = (
            "select c.timeline_id < r.min_recovery_end_timeline from pg_control_checkpoint() c, pg_control_recovery() r"
        )
        assert server.sql(is_checkpoint_pending) == [["t"]]  # the first checkpoint of the new timeline has not ended
        assert error(replica.request("GET", f"/changes{page['next']}")) == (410, "cursor_expired")
