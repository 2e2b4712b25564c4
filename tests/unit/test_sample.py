"""The sample data: a hundred people with names in many scripts, most with a photo, and some files to be rejected."""

import struct
import unicodedata
import zlib
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from process_data.keys import parse_key
from process_data.parse import CheckResult

from infra.local.demo.sample import write
from tests.parsing import parse

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sample")
    assert write(directory) == len(list(directory.iterdir()))
    return directory


@pytest.fixture(scope="module")
def parsed(directory: Path) -> CheckResult:
    paths = [path for path in sorted(directory.glob("*.csv")) if path.stem.isdigit()]
    return parse([(path.name, path.read_bytes()) for path in paths], int(NOW.timestamp() * 1000))


def test_the_sample_has_a_hundred_valid_people(parsed: CheckResult) -> None:
    assert len(parsed.valid) == 100
    assert len({row.user_id for row in parsed.valid}) == 100


def test_the_invalid_files_are_rejected_for_different_reasons(directory: Path, parsed: CheckResult) -> None:
    assert {rejection.object: rejection.code for rejection in parsed.rejections} == {
        "2001.csv": "no_row",
        "2002.csv": "not_an_integer",
        "2003.csv": "in_the_future",
        "2004.csv": "missing_column",
    }
    assert [path.name for path in directory.glob("*.csv") if not path.stem.isdigit()] == ["jane.csv"]


def test_most_people_have_a_unique_photo_and_one_photo_has_no_person(directory: Path, parsed: CheckResult) -> None:
    photos = {path.stem: path.read_bytes() for path in directory.glob("*.png")}
    assert len(photos.keys() & {row.user_id for row in parsed.valid}) == 75
    assert photos.keys() - {row.user_id for row in parsed.valid} == {"2005"}
    assert len(set(photos.values())) == len(photos)


def test_every_photo_is_a_valid_png_of_64_by_64(directory: Path) -> None:
    for path in directory.glob("*.png"):
        chunks = png_chunks(path.read_bytes())
        assert struct.unpack(">IIBBBBB", chunks["IHDR"]) == (64, 64, 1, 3, 0, 0, 0)
        assert len(chunks["PLTE"]) == 6
        assert len(zlib.decompress(chunks["IDAT"])) == 64 * (1 + 8)


def png_chunks(image: bytes) -> dict[str, bytes]:
    """Return the chunks by type, after checking their checksums."""
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, rest = {}, image[8:]
    while rest:
        length, kind = struct.unpack(">I4s", rest[:8])
        data, (checksum,) = rest[8 : 8 + length], struct.unpack(">I", rest[8 + length : 12 + length])
        assert checksum == zlib.crc32(kind + data)
        chunks[kind.decode()], rest = data, rest[12 + length :]
    assert list(chunks) == ["IHDR", "PLTE", "IDAT", "IEND"]
    return chunks


def test_the_names_are_in_many_scripts(parsed: CheckResult) -> None:
    letters = {letter for row in parsed.valid for letter in row.first_name + row.last_name}
    scripts = {unicodedata.name(letter).split()[0] for letter in letters if letter.isalpha()}
    assert scripts >= {
        *("LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "CJK", "HIRAGANA", "KATAKANA", "HANGUL"),
        *("DEVANAGARI", "BENGALI", "TAMIL", "THAI", "GEORGIAN", "ARMENIAN", "ETHIOPIC", "TIBETAN"),
    }


def test_the_files_vary_in_bom_line_endings_quotes_spaces_column_order_and_final_newline(
    directory: Path, parsed: CheckResult
) -> None:
    bodies = [(directory / row.key).read_bytes() for row in parsed.valid]
    for variations in (
        {body.startswith("\ufeff".encode()) for body in bodies},
        {b"\r\n" in body for body in bodies},
        {b'""' in body for body in bodies},
        {body.startswith(b" ") for body in bodies},
        {body.startswith(b"birthts") for body in bodies},
        {body.endswith(b"\n") for body in bodies},
    ):
        assert variations == {True, False}


def test_birthdates_span_a_century_and_include_a_leap_day(parsed: CheckResult) -> None:
    births = [datetime.fromtimestamp(row.birthts / 1000, UTC).date() for row in parsed.valid]
    assert min(births) < date(1917, 1, 1)
    assert max(births) > date(2025, 1, 1)
    assert len({birth.year // 10 for birth in births}) == 12
    assert date(1976, 2, 29) in births


def test_the_files_are_the_same_each_time(directory: Path, tmp_path: Path) -> None:
    write(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in directory.iterdir()
    }


def test_every_kind_of_key_is_present(directory: Path) -> None:
    kinds = Counter(parse_key(path.name).kind for path in directory.iterdir())
    assert kinds == {"csv": 104, "photo": 76, "bad_name": 1, "ignored": 1}
