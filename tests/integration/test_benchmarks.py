"""The benchmarks run, at sizes too small for meaningful results."""

import json
import sys
from pathlib import Path

import pytest

from tests.benchmarks import measure, process, query, scaling, sizes
from tests.benchmarks.measure import SERVER, SIMULATOR, Measurements, Row
from tests.memory import MEBIBYTE
from tests.replica import query_replica
from tests.stack import Stack


def test_the_first_load_and_unchanged_benchmarks_load_all_users(rollcall: Stack) -> None:
    [load] = process.first_load(rollcall, rounds=2, people=20, photos=10)
    [rerun] = process.unchanged(rollcall, rounds=1, people=20, photos=10)
    assert [(row.name, row.s3, len(row.own.values)) for row in (load, rerun)] == [
        ("first-load", SERVER, 2),
        ("unchanged", SERVER, 1),
    ]
    assert rollcall.sql("select count(*), count(img_path) from users") == [[20, 10]]


def test_users_that_a_benchmark_inserts_match_the_simulated_bucket(rollcall: Stack) -> None:
    [row] = process.unchanged_with_latency(rollcall, rounds=1, people=3000, photos=1000, page_seconds=0)
    assert (row.name, row.s3, len(row.own.values)) == ("slow-listing", SIMULATOR, 1)
    assert rollcall.sql("select count(*), count(img_path) from users") == [[3000, 1000]]


def test_the_shares_of_the_replicas_add_up_to_all_users(rollcall: Stack) -> None:
    rate, deviation = scaling.replicas(rollcall, 1, 1200, [None], number=2, get_seconds=0, segment_keys="200")
    assert (rate.name, deviation.name) == ("replicas", "replicas")
    [shares] = rate.details["shares"]
    assert (len(shares), sum(shares)) == (2, 1200)


def test_the_deadline_benchmark_continues_partial_runs(rollcall: Stack) -> None:
    [row] = scaling.deadline(rollcall, 1, people=600, photos=0, page_seconds=0, get_seconds=0.25, run_deadline=1)
    [continuations] = row.details["continuations"]
    assert continuations >= 1  # 600 GETs of 0.25 s, 64 at a time
    assert rollcall.sql("select count(*) from users") == [[600]]


def test_the_event_memory_and_export_benchmarks_run(rollcall: Stack) -> None:
    [events] = process.events(rollcall, 1, people=40, few=20, number=10)
    assert len(events.details["export_seconds"]) == 1
    [memory] = scaling.memory(rollcall, 1, people=40, photos=20, gap=4)
    assert "60 keys, 10 new users" in memory.work
    [export] = process.export(rollcall, 1, people=40)
    assert export.details["bytes"] == len(rollcall.bucket.read("output.csv"))


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_peak_memory_excludes_the_memory_of_the_parent(rollcall: Stack) -> None:
    """`ru_maxrss` of a child starts at the memory of its parent, so the peak is read from /proc instead."""
    ballast = b"x" * (300 * MEBIBYTE)
    with query_replica(rollcall) as running:
        assert running.stop() == 0
    assert 10 * MEBIBYTE < running.peak < len(ballast)


def test_every_benchmark_of_query_data_is_in_the_table(
    rollcall: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "rows.json"
    monkeypatch.setattr(query, "REQUESTS", 3)
    monkeypatch.setattr(query, "LOOKUP", "user_id=000000007")
    with query.running_subject(rollcall, 300) as subject:
        measure.measure_rows(
            query.BENCHMARKS,
            measure.parse_arguments("query", query.BENCHMARKS, ["--rounds", "1", "--json", str(file)]),
            subject,
        )
    assert {row["name"] for row in json.loads(file.read_text(encoding="utf-8"))["rows"]} == query.BENCHMARKS.keys()
    output = capsys.readouterr().out
    for work in ("stream of 300", "page of 100", "lookup", "/stats", "web page", "count=1", "start", "peak memory"):
        assert f"\n{work}" in output


def test_the_table_of_sizes_lists_every_size(rollcall: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    rows = sizes.cost_by_size(rollcall, rounds=1, sizes=(30, 60))
    assert [row.name for row in rows] == ["sizes"] * 4
    assert list(rows[0].details) == ["30", "60"]
    output = capsys.readouterr().out
    assert (output.count("30 keys"), output.count("60 keys")) == (2, 2)


def test_the_exponent_of_growth_is_the_slope_of_the_logarithms() -> None:
    assert sizes.exponent({10: 20, 100: 200, 1000: 2000}) == pytest.approx(1)
    assert sizes.exponent({10: 1, 100: 100}) == pytest.approx(2)


@pytest.mark.parametrize(("at_least", "result"), [(False, "MISSED"), (True, "ok")])
def test_a_row_compares_the_ratio_of_the_medians_with_its_goal(at_least: bool, result: str) -> None:
    own, baseline = Measurements((1.0, 9.0, 4.0), "s"), Measurements((1.0, 2.0, 3.0), "s")
    row = Row("name", "work", SERVER, own, baseline, 1.5, at_least=at_least)
    assert row.ratio == 2
    assert str(row).split()[-1] == result
    assert "2.00 (1.00–4.50)" in str(row)
    document = json.loads(json.dumps(row.to_json()))
    assert (document["own"], document["ratio"], document["is_reached"]) == ([1.0, 9.0, 4.0], 2.0, at_least)


def test_an_unknown_benchmark_is_an_error_and_writes_no_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        process.main(["first-load", "frist", "--json", str(tmp_path / "rows.json")])
    assert raised.value.code == 2
    assert "unknown benchmark 'frist'; expected one of first-load, latency" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
