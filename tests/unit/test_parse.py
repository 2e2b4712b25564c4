"""process-data's parser: the files in tests/data and generated ones."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from process_data.parse import read_row
from process_data.rejections import Rejection
from process_data.shared.storage.objects import Object

from tests.parsing import MODIFIED, parse
from tests.samples import Sample, samples

NOW = int(MODIFIED.timestamp() * 1000)
EARLIEST = -3_786_825_600_000  # 1850-01-01 UTC
GOOD = samples("good")
BAD = [sample for sample in samples("bad") if sample.expected["code"] not in ("bad_name", "too_large")]


def rows(*items: tuple[str, bytes]) -> list[dict[str, Any]]:
    parsed = parse(items, NOW)
    assert parsed.rejections == []
    return [
        {name: getattr(row, name) for name in ("user_id", "first_name", "last_name", "birthts")} for row in parsed.valid
    ]


def count_rows(item: tuple[str, bytes], now: int) -> int:
    """Return the number of valid rows in a file if the time is `now`."""
    return len(parse([item], now).valid)


@pytest.mark.parametrize("sample", GOOD, ids=str)
def test_unusual_but_valid_files_are_accepted(sample: Sample) -> None:
    assert rows(("0042.csv", sample.body)) == [{"user_id": "0042", **sample.expected}]


@pytest.mark.parametrize("sample", BAD, ids=str)
def test_bad_files_are_rejected_with_line_and_reason(sample: Sample) -> None:
    parsed = parse([("7.csv", sample.body)], NOW)
    assert parsed.valid == []
    [rejection] = parsed.rejections
    assert (rejection.object, rejection.etag, rejection.line, rejection.code) == (
        "7.csv",
        "etag",
        sample.expected["line"],
        sample.expected["code"],
    )
    assert sample.expected["message"] in rejection.message
    assert len(rejection.message) < 300


def test_a_birthts_of_19_digits_is_not_an_integer() -> None:
    """The largest numbers of 19 digits exceed a signed 64-bit integer."""
    [rejection] = parse(
        [("7.csv", b"first_name,last_name,birthts\nAda,Lovelace,9999999999999999999\n")], NOW
    ).rejections
    assert rejection.code == "not_an_integer"


def test_a_batch_gives_the_same_results_as_its_files_one_by_one() -> None:
    items = [(f"{number}.csv", sample.body) for number, sample in enumerate([*GOOD, *BAD, *GOOD])]
    together = parse(items, NOW)
    alone = [parse([item], NOW) for item in items]
    by_object = {rejection.object: rejection for parsed in alone for rejection in parsed.rejections}
    assert {rejection.object: rejection for rejection in together.rejections} == by_object
    assert together.valid == [row for parsed in alone for row in parsed.valid]


def test_an_empty_batch_gives_no_results() -> None:
    parsed = parse([], NOW)
    assert parsed.valid == []
    assert parsed.rejections == []


@pytest.mark.parametrize(
    ("bound", "beyond", "code"), [(EARLIEST, EARLIEST - 1, "too_early"), (NOW, NOW + 1, "in_the_future")]
)
def test_birth_bounds_are_inclusive(bound: int, beyond: int, code: str) -> None:
    header = b"first_name,last_name,birthts\n"
    assert rows(("1.csv", header + b"A,B,%d" % bound))[0]["birthts"] == bound
    [rejection] = parse([("1.csv", header + b"A,B,%d" % beyond)], NOW).rejections
    assert rejection.code == code


def test_only_a_birth_in_the_future_may_be_accepted_later() -> None:
    header = b"first_name,last_name,birthts\n"
    later = NOW + 1
    [rejection] = parse([("1.csv", header + b"A,B,+%d" % later)], NOW).rejections
    assert (rejection.code, rejection.retry_after) == ("in_the_future", later)
    assert count_rows(("1.csv", header + b"A,B,+%d" % later), later) == 1
    for sample in BAD:
        [rejection] = parse([("1.csv", sample.body)], NOW).rejections
        assert (rejection.retry_after is None) == (rejection.code != "in_the_future")


@pytest.mark.parametrize("row", [b"%s,B,0", b"A,%s,0", b"A,B,%s"])
def test_the_message_about_an_overlong_value_is_truncated(row: bytes) -> None:
    """So the rejections of a batch need little memory."""
    body = b"first_name,last_name,birthts\n" + row % (b"7" * 60_000) + b"\n"
    rejection = read_row("1.csv", Object(body, "etag", MODIFIED))
    assert isinstance(rejection, Rejection)
    assert len(rejection.message) < 200


@given(st.binary(max_size=200))
def test_any_bytes_are_accepted_or_rejected(body: bytes) -> None:
    parsed = parse([("1.csv", body)], NOW)
    assert len(parsed.valid) + len(parsed.rejections) == 1


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=200).filter(
    lambda name: name == name.strip()
)


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


@given(NAMES, NAMES, st.integers(EARLIEST, NOW), st.sampled_from(["", " ", "\t "]))
def test_values_in_quotes_are_unchanged(first: str, last: str, birthts: int, space: str) -> None:
    row = f"{space},{space}".join(quoted(value) for value in (first, last, str(birthts)))
    body = f"first_name,last_name,birthts\r\n{space}{row}{space}\r\n".encode()
    assert rows(("1.csv", body)) == [{"user_id": "1", "first_name": first, "last_name": last, "birthts": birthts}]
