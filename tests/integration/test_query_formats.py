"""Formats of query-data: JSON, CSV and NDJSON."""

import csv
import io
import json
import re

import pandas as pd
import pytest

from tests.queries import add, get
from tests.stack import Stack


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/csv", "text/csv"),
        ("text/*", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/json;q=0.5, text/csv;q=0.8", "text/csv"),
        ("application/json;q=0.5, text/csv;q=0.3, */*;q=0.1", "application/json"),
        ("application/json;q=0, text/csv;q=0.1", "text/csv"),
        ("image/webp, */*;q=0.1", "application/json"),
        ("nonsense, text/csv", "text/csv"),
    ],
)
def test_accept_chooses_the_format(rollcall: Stack, accept: str, media_type: str) -> None:
    response = get(rollcall, "", Accept=accept)
    assert response.status == 200
    assert response.headers["Content-Type"].partition(";")[0] == media_type
    assert response.headers["Vary"] == "Accept"


def test_format_overrides_accept_and_an_unsupported_type_is_a_406(rollcall: Stack) -> None:
    assert get(rollcall, "?format=csv", Accept="application/json").headers["Content-Type"].startswith("text/csv")
    assert get(rollcall, "?format=json", Accept="image/png").status == 200
    response = get(rollcall, "", Accept="image/png, application/json;q=0")
    assert (response.status, response.json()["error"]["code"]) == (406, "not_acceptable")
    assert "application/json, text/csv, application/x-ndjson" in response.json()["error"]["message"]


AWKWARD_NAMES = [
    'quote " here',
    "comma, here",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "＝1",
    "＋1",
    "－1",
    "＠SUM(A1)",
    "'=1",
    "a=1",
    "Zoë נועה 小明 👩‍👧",
    "\\.",
    "\u2028",
]


@pytest.mark.parametrize("limit", ["", "&limit=1000"])
def test_csv_has_a_byte_order_mark_neutralised_formulas_and_an_end_marker(rollcall: Stack, limit: str) -> None:
    for number, name in enumerate([*AWKWARD_NAMES, "lines\r\n\x01\x02"]):
        add(rollcall, str(10 + number), first=name, last=name[::-1], photo=number % 2 == 0, born=-1)
    response = get(rollcall, f"?format=csv{limit}")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert response.headers["Content-Disposition"] == 'attachment; filename="people.csv"'
    assert response.body.startswith("\ufeffid,user_id,".encode())
    text, end = response.body.decode("utf-8-sig").removesuffix("#end\n"), response.body[-6:]
    assert end == b"\n#end\n"
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    people = get(rollcall).json()["result"]
    assert list(rows[0]) == list(people[0])
    for row, person in zip(rows, people, strict=True):
        for column in ("first_name", "last_name"):
            name = re.sub("[\r\n\x01\x02]", " ", person.pop(column))
            assert row.pop(column) == ("'" + name if name.lstrip("'")[:1] in tuple("=+-@＝＋－＠") else name)
        assert row == {name: "" if value is None else str(value) for name, value in person.items()}


@pytest.mark.parametrize("limit", ["", "&limit=1000"])
def test_ndjson_has_the_same_people_one_per_line(rollcall: Stack, limit: str) -> None:
    for number, name in enumerate([*AWKWARD_NAMES, "line\nfeed \x01 \x02"]):
        add(rollcall, str(10 + number), first=name)
    lines = get(rollcall, f"?format=ndjson{limit}").body.decode().split("\n")
    assert [lines.pop(), lines.pop()] == ["", '{"next": null}']
    assert [json.loads(line) for line in lines] == get(rollcall).json()["result"]


@pytest.mark.parametrize(
    ("format_name", "expected"),
    [
        ("json", b'{"result": [], "next": null}\n'),
        ("csv", b"\xef\xbb\xbfid,user_id,first_name,last_name,birthdate,birthts,img_path,age\n#end\n"),
        ("ndjson", b'{"next": null}\n'),
    ],
)
@pytest.mark.parametrize("limit", ["", "&limit=5"])
def test_an_empty_result_is_complete_in_json_csv_and_ndjson(
    rollcall: Stack, format_name: str, expected: bytes, limit: str
) -> None:
    assert get(rollcall, f"?format={format_name}{limit}").body == expected


def test_pandas_reads_the_csv_as_the_readme_says(rollcall: Stack) -> None:
    add(rollcall, "0001", first="NaN", last="Null")
    text = get(rollcall, "?format=csv").body.decode("utf-8-sig")
    [row] = pd.read_csv(io.StringIO(text), comment="#", dtype={"user_id": str}, keep_default_na=False).to_dict(
        "records"
    )
    assert (row["user_id"], row["first_name"], row["last_name"]) == ("0001", "NaN", "Null")
