"""The comparison with other systems, tests/benchmarks/peers, works. At this size its results mean nothing."""

from pathlib import Path

import pytest

from infra.local.environment import find
from tests.benchmarks.peers.compare import REQUIREMENTS, compare
from tests.benchmarks.peers.cost import costs
from tests.stack import Stack


@pytest.fixture(scope="module")
def python() -> Path:
    """Return the Python interpreter of the peers' environment. Skip the test if there is none."""
    path = find([REQUIREMENTS])
    if path is None:
        pytest.skip("the peers are not installed: python3 tests/benchmarks peers installs them")
    return path


def test_every_system_is_measured_and_classified(
    rollcall: Stack, python: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = compare(rollcall, python, people=20, rounds=1, samples=3, requests=2)
    systems = [list(comparison["seconds"]) for comparison in document["comparisons"]]
    assert systems == [["Rollcall", "dlt", "row at a time"]] * 2 + [["Rollcall", "Datasette", "psql"]] * 3
    assert all(len(values) == 1 for comparison in document["comparisons"] for values in comparison["seconds"].values())
    assert list(document["outcomes"]) == ["Rollcall", "dlt", "row at a time"]
    outcomes = document["outcomes"]["Rollcall"]
    assert {finding["outcome"] for finding in outcomes["good"].values()} == {"loaded correctly"}
    assert {finding["outcome"] for finding in outcomes["bad"].values()} == {"rejected with a reason"}
    assert "row at a time, bad" in capsys.readouterr().out


def test_the_requests_and_bytes_of_a_load_and_a_rerun_are_counted(rollcall: Stack) -> None:
    load, rerun = costs(rollcall, people=30)
    assert (load.objects, load.requests["GET"]) == (45, 30)
    assert load.received > 30 * len("first_name,last_name,birthts\n")
    assert load.sent > 30 * len("000000000,Ada,Lovelace,0,\n")  # output.csv
    assert "GET" not in rerun.requests
    assert rerun.received < load.received
