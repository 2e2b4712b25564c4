"""Runs in query-data's responses, by trigger, scope and status."""

import json
from itertools import product
from typing import Any

import pytest
from process_data.runs import Status, Trigger
from query_data.openapi import openapi

from tests.queries import get
from tests.stack import Stack

SCOPES = ("bucket", "users")
STATUSES = ("running", *Status)


def insert(rollcall: Stack, trigger: str, scope: str, status: str, summary: dict[str, Any] | None = None) -> None:
    rollcall.sql(
        "insert into runs (trigger, scope, status, summary, finished_at)"
        " values (:trigger, :scope, :status, :summary, case :status when 'running' then null else now() end)",
        trigger=trigger,
        scope=scope,
        status=status,
        summary=None if summary is None else json.dumps(summary),
    )


def test_the_openapi_document_lists_every_trigger_scope_and_status() -> None:
    properties = openapi(requires_token=True)["components"]["schemas"]["Run"]["properties"]
    assert properties["trigger"]["enum"] == [str(trigger) for trigger in Trigger]
    assert properties["scope"]["enum"] == list(SCOPES)
    assert properties["status"]["enum"] == [str(status) for status in STATUSES]


def test_runs_have_their_trigger_scope_and_status(rollcall: Stack) -> None:
    expected = list(product(map(str, Trigger), SCOPES, map(str, STATUSES)))
    for trigger, scope, status in expected:
        insert(rollcall, trigger, scope, status)
    runs = get(rollcall, "/runs").json()["result"]
    assert [(run["trigger"], run["scope"], run["status"]) for run in runs] == expected[::-1]
    assert not any("prefix" in run for run in runs)  # the column that version 1 used instead of scope


def test_runs_for_users_are_distinguished_from_runs_over_the_bucket(rollcall: Stack) -> None:
    rollcall.bucket.put_person("1")
    rollcall.process()
    rollcall.process("?user_id=1")
    rollcall.event("1.csv")
    runs = get(rollcall, "/runs").json()["result"]
    assert [(run["trigger"], run["scope"]) for run in runs] == [
        ("event", "users"),
        ("http", "users"),
        ("http", "bucket"),
    ]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("trigger", Trigger)
def test_the_page_shows_the_last_run_of_any_trigger_and_status(rollcall: Stack, trigger: str, status: str) -> None:
    insert(rollcall, trigger, "bucket", status)
    response = get(rollcall, "", Accept="text/html")
    assert response.status == 200
    assert b"Started by " in response.body


def test_the_page_shows_unreadable_objects_if_there_are_any(rollcall: Stack) -> None:
    counts = {"added": 1, "updated": 0, "unchanged": 0, "remaining": 2}
    for unreadable, is_shown in ((0, False), (2, True)):
        insert(rollcall, "cron", "bucket", "partial", counts | {"unreadable": unreadable})
        assert (b"Unreadable" in get(rollcall, "", Accept="text/html").body) is is_shown
    insert(rollcall, "cron", "bucket", "partial", counts)  # the summary of an older version
    assert b"Remaining" in get(rollcall, "", Accept="text/html").body


def test_deleting_old_runs_changes_the_etag(rollcall: Stack) -> None:
    for _ in range(2):
        rollcall.process()
    before = get(rollcall, "/runs").headers["ETag"]
    assert get(rollcall, "/runs").headers["ETag"] == before
    rollcall.sql("delete from runs where id = (select min(id) from runs)")
    assert get(rollcall, "/runs", If_None_Match=before).status == 200


def test_a_run_whose_end_is_committed_late_changes_the_etag(rollcall: Stack) -> None:
    """Its `finished_at` is earlier than that of a run committed before it, so max(finished_at) stays the same."""
    rollcall.sql("insert into runs (trigger, scope, status) values ('http', 'bucket', 'running')")
    rollcall.sql("insert into runs (trigger, scope, status, finished_at) values ('http', 'bucket', 'done', now())")
    before = get(rollcall, "/runs").headers["ETag"]
    rollcall.sql("update runs set finished_at = started_at where status = 'running'")
    assert get(rollcall, "/runs", If_None_Match=before).status == 200


def test_the_etag_depends_on_which_runs_are_unfinished(rollcall: Stack) -> None:
    """Here min(id), max(id) and max(finished_at) stay the same.

    The first change also keeps the number of unfinished runs.
    """
    insert_runs = "insert into runs (id, trigger, scope, status, finished_at) overriding system value values "
    rollcall.sql(f"{insert_runs} (5, 'http', 'bucket', 'done', '2026-01-02'), (6, 'http', 'bucket', 'running', null)")
    rollcall.sql(f"{insert_runs} (9, 'http', 'bucket', 'running', null)")
    before = get(rollcall, "/runs").headers["ETag"]
    rollcall.sql("update runs set finished_at = '2026-01-01' where id = 6")
    rollcall.sql(f"{insert_runs} (7, 'http', 'bucket', 'running', null)")
    after = get(rollcall, "/runs", If_None_Match=before)
    assert after.status == 200
    rollcall.sql(f"{insert_runs} (8, 'http', 'bucket', 'running', null)")  # was committed later than 9
    assert get(rollcall, "/runs", If_None_Match=after.headers["ETag"]).status == 200


def test_a_run_that_starts_and_ends_between_two_requests_changes_the_etag(rollcall: Stack) -> None:
    insert_runs = "insert into runs (id, trigger, scope, status, finished_at) overriding system value values "
    rollcall.sql(
        f"{insert_runs} (5, 'http', 'bucket', 'done', '2026-01-02'), (9, 'http', 'bucket', 'done', '2026-01-01')"
    )
    before = get(rollcall, "/runs").headers["ETag"]
    rollcall.sql(f"{insert_runs} (7, 'http', 'bucket', 'done', '2026-01-03')")  # was committed later than 9
    after = get(rollcall, "/runs", If_None_Match=before)
    assert after.status == 200
    rollcall.sql(f"{insert_runs} (10, 'http', 'bucket', 'done', '2026-01-02')")  # the clock was set back
    assert get(rollcall, "/runs", If_None_Match=after.headers["ETag"]).status == 200
