"""Every query of the dashboard and of the Monitoring section runs with the read-only role."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pg8000.native
import pytest

from tests.stack import ROOT, Stack, connected

DASHBOARD = json.loads((ROOT / "infra/grafana/rollcall.json").read_text(encoding="utf-8"))
QUERIES = {
    panel["title"]: (target["rawSql"], target["format"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
    if "rawSql" in target
}

MONITORING = (ROOT / "infra/README.md").read_text(encoding="utf-8").split("\n## Monitoring\n")[1].split("\n## ")[0]


def expand_macros(sql: str) -> str:
    """Expand Grafana's macros, for one day in steps of five minutes."""
    sql = re.sub(
        r"\$__timeGroupAlias\((\w+), \$__interval\)", r'floor(extract(epoch from \1) / 300) * 300 as "time"', sql
    )
    sql = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 between now() - interval '1 day' and now() + interval '1 s'", sql)
    assert "$" not in sql
    return sql


@pytest.fixture(scope="module")
def reader(stack: Stack) -> Iterator[pg8000.native.Connection]:
    with connected(stack.query_settings) as connection:
        yield connection


@pytest.fixture
def used(rollcall: Stack) -> Stack:
    """A stack with a person, a rejected file, a hint, and done, partial and failed runs."""
    rollcall.bucket.put_person("1000")
    rollcall.bucket.put("1001.csv", b"no header\nat all\n")
    rollcall.process()
    rollcall.event("1000.csv")
    rollcall.sql("insert into hints (object, tick) values ('1002.csv', 1)")
    rollcall.sql(
        "insert into runs (trigger, finished_at, continued_at, status, summary)"
        " values ('continuation', now(), now(), 'partial', :summary)",
        summary=json.dumps({"segments": {"remaining": 3}, "remaining": 7, "unreadable": 2}),
    )
    rollcall.sql(
        "insert into runs (trigger, scope, finished_at, status, summary, error)"
        " values ('http', 'users', now(), 'failed', '{}', 'it broke')"
    )
    return rollcall


@pytest.mark.parametrize("title", QUERIES)
def test_every_panel_query_returns_rows(used: Stack, reader: pg8000.native.Connection, title: str) -> None:
    sql, result_format = QUERIES[title]
    rows = reader.run(expand_macros(sql))
    assert rows
    assert reader.columns
    names = [column["name"] for column in reader.columns]
    if result_format == "time_series":
        assert names[0] == "time"
        times = [row[0] for row in rows]
        assert times == sorted(times)


def panel_rows(reader: pg8000.native.Connection, title: str) -> Any:
    return reader.run(expand_macros(QUERIES[title][0]))


def test_the_panels_show_correct_values(used: Stack, reader: pg8000.native.Connection) -> None:
    assert panel_rows(reader, "Users") == [[1]]
    assert panel_rows(reader, "Rejected files") == [[1]]
    assert panel_rows(reader, "Runs in progress") == [[0]]
    assert panel_rows(reader, "Pending hints") == [[1]]
    assert panel_rows(reader, "Pending exports") == [[0]]
    assert panel_rows(reader, "Unreadable objects") == [[2]]
    assert panel_rows(reader, "Rejected files by reason") == [["unknown_column", 1]]
    for title in ("Time since the last full run", "Age of the oldest scan"):
        [[seconds]] = panel_rows(reader, title)
        assert 0 <= seconds < 60
    outcomes = panel_rows(reader, "Runs by outcome")
    assert sum(row[2] for row in outcomes if row[1] == "done") == 2
    failed, partial = panel_rows(reader, "Failed and partial runs")
    assert failed[3:] == ["http", "users", "failed", None, None, None, None, "it broke"]
    assert partial[3:9] == ["continuation", "bucket", "partial", 3, 7, 2]
    assert partial[9] is not None
    stages = {row[1] for row in panel_rows(reader, "Duration by stage")}
    assert stages == {"list", "reconcile", "fetch", "parse", "store", "export", "total"}


def test_only_a_run_over_the_whole_bucket_counts_as_a_full_run(
    rollcall: Stack, reader: pg8000.native.Connection
) -> None:
    rollcall.process()
    rollcall.sql("update runs set finished_at = now() - interval '1 hour'")
    rollcall.process("?user_id=1")
    [[seconds]] = panel_rows(reader, "Time since the last full run")
    assert seconds >= 3600


@pytest.mark.parametrize("sql", re.findall(r"`(select [^`]+)`", MONITORING))
def test_every_monitoring_query_runs_with_the_read_only_role(
    used: Stack, reader: pg8000.native.Connection, sql: str
) -> None:
    rows = reader.run(sql)
    assert rows or "from outputs" in sql  # pending exports: there are none here
