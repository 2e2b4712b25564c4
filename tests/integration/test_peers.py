"""The comparison with the peers runs, at a size too small to measure anything."""

from pathlib import Path

import pytest

from infra.local.environment import find
from tests.benchmarks.peers.compare import REQUIREMENTS, compare
from tests.benchmarks.peers.cost import costs
from tests.stack import Stack


@pytest.fixture(scope="module")
def python() -> Path:
    """That of the peers' environment, which is not made for a test."""
    found = find([REQUIREMENTS])
    if found is None:
        pytest.skip("the peers are not installed: python3 tests/benchmarks peers installs them")
    return found


def test_every_system_is_measured_and_judged(roll: Stack, python: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = compare(roll, python, people=20, rounds=1, samples=3, requests=2)
    systems = [list(comparison["seconds"]) for comparison in document["comparisons"]]
    assert systems == [["Rollcall", "dlt", "row at a time"]] * 2 + [["Rollcall", "Datasette", "psql"]] * 3
    assert all(len(values) == 1 for one in document["comparisons"] for values in one["seconds"].values())
    assert list(document["outcomes"]) == ["Rollcall", "dlt", "row at a time"]
    found = document["outcomes"]["Rollcall"]
    assert {one["outcome"] for one in found["good"].values()} == {"loaded rightly"}
    assert {one["outcome"] for one in found["bad"].values()} == {"rejected with a reason"}
    assert "row at a time, bad" in capsys.readouterr().out


def test_what_a_user_pays_is_counted(roll: Stack) -> None:
    load, rerun = costs(roll, people=30)
    assert (load.objects, load.requests["GET"]) == (45, 30)
    assert load.received > 30 * len("first_name,last_name,birthts\n")
    assert load.sent > 30 * len("000000000,Ada,Lovelace,0,\n")  # output.csv
    assert "GET" not in rerun.requests
    assert rerun.received < load.received
