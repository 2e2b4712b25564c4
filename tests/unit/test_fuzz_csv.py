"""process-data's parser and a naive one agree which files are valid, what they contain and why the rest are rejected.

The first test is a short run of `python3 tests/fuzz csv` with a fixed seed.
"""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest
from process_data.parse import CheckResult

from tests import naive_csv
from tests.fuzz import command, csvs
from tests.fuzz.grammar import files
from tests.naive_csv import Person, Violation
from tests.parsing import parse
from tests.samples import Sample, samples

FILES = 10_000
SEED = 1

SAMPLES = [sample for sample in samples("bad") if sample.expected["code"] not in ("bad_name", "too_large")]
SAMPLES += samples("good")


def test_both_parsers_agree_on_generated_files() -> None:
    assert list(csvs.fuzz(FILES, SEED))[:3] == []


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_the_naive_parser_gives_the_expected_result_for_each_sample(sample: Sample) -> None:
    result, expected = naive_csv.read(sample.body, csvs.NOW), sample.expected
    if isinstance(result, Person):
        assert result._asdict() == expected
    else:
        assert any(code == expected["code"] and first <= expected["line"] <= last for code, first, last in result)


def test_the_generated_files_include_valid_ones_and_every_rejection_code() -> None:
    results = [naive_csv.read(body, csvs.NOW) for body in islice(files(SEED, csvs.NOW), FILES)]
    assert sum(isinstance(result, Person) for result in results) > FILES / 3
    codes = {violation.code for result in results if not isinstance(result, Person) for violation in result}
    assert codes == {sample.expected["code"] for sample in SAMPLES if "code" in sample.expected}


@pytest.mark.parametrize(
    ("body", "naive_result"),
    [
        (b"first_name,last_name,birthts\nAda,Byron,0", Person("Ada", "Byron", 1)),  # accepted with a wrong value
        (b"first_name,last_name,birthts\nAda,Byron,0", {Violation("empty", 1, 1)}),  # wrongly accepted
        (b"first_name,last_name,birthts\nAda,,0", Person("Ada", "Byron", 0)),  # wrongly rejected
        (b"first_name,last_name,birthts\nAda,,0", {Violation("too_long", 2, 2)}),  # wrong reason
        (b"first_name,last_name,birthts\nAda,,0", {Violation("empty_value", 3, 3)}),  # wrong line
    ],
)
def test_a_difference_between_the_parsers_is_reported(
    monkeypatch: pytest.MonkeyPatch, body: bytes, naive_result: Person | set[Violation]
) -> None:
    """The naive parser's result is replaced by `naive_result`, so process-data's parser seems to be wrong."""
    assert csvs.problems([body]) == []
    monkeypatch.setattr(csvs, "read", lambda _body, _now: naive_result)
    [problem] = csvs.problems([body])
    assert repr(body) in problem


def test_an_exception_that_occurs_only_if_files_are_parsed_together_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bodies = [b"first_name,last_name,birthts\nAda,Byron,0", b"first_name,last_name,birthts\nAda,Byron,1"]

    def parse_one(files: Iterable[tuple[str, bytes]], now: int) -> CheckResult:
        [file] = files
        return parse([file], now)

    monkeypatch.setattr(csvs, "parse", parse_one)
    assert csvs.problems(bodies[:1]) == csvs.problems(bodies[1:]) == []
    [problem] = csvs.problems(bodies)
    assert "ValueError" in problem
    assert repr(bodies) in problem


def test_the_command_writes_the_numbers_of_inputs_and_findings_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    assert command.main(["csv", "--inputs", "600", "--seed", "7", "--json", str(file)]) == 0
    results = json.loads(file.read_text(encoding="utf-8"))
    [row] = results["targets"]
    assert (results["seed"], row["target"], row["inputs"], row["findings"]) == (7, "csv", 600, 0)
    assert "seed 7\n" in capsys.readouterr().out


@pytest.mark.parametrize("inputs", ["0", "-1"])
def test_fewer_than_one_input_is_an_error(capsys: pytest.CaptureFixture[str], inputs: str) -> None:
    with pytest.raises(SystemExit):
        command.main(["csv", "--inputs", inputs])
    assert "expected at least 1" in capsys.readouterr().err
