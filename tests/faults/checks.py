"""What must be the case at rest, whatever happened before."""

import csv
import io
from typing import Any

from tests.faults.calls import Calls
from tests.faults.model import Model, Person
from tests.faults.subject import Subject
from tests.stack import Stack

Rows = dict[str, tuple[Person, str | None]]


def check_rest(subject: Subject, model: Model, calls: Calls) -> list[str]:
    """What is wrong, with the bucket at rest and a run `done`. The model knows from then on what is in the table."""
    stack = subject.stack
    table = stack.sql("select user_id, first_name, last_name, birthts, img_path from users order by user_id")
    rows: Rows = {user_id: ((first, last, birth), image) for user_id, first, last, birth, image in table}
    source = stack.settings["source_bucket"]
    listed = {
        str(one.object_name): str(one.etag).strip('"')
        for one in stack.bucket.client.list_objects(bucket_name=source, recursive=True)
    }
    problems = model.differences(listed, rows)
    if len(rows) != len(table):
        problems.append("users has duplicates")
    problems += _check_outputs(stack, model, rows, listed)
    [[pending]] = stack.sql("select count(*) from hints")
    if pending:
        problems.append(f"{pending} hints are left")
    summary = calls.run(subject.slots_of("process-data")[0])
    work = {name: summary[name] for name in ("added", "updated", "images_changed")} if summary else {}
    if summary is None or any(work.values()) or summary["output"]["written"] or summary["status"] != "done":
        problems.append(f"a further run had work to do: {summary}")
    model.settle(rows)
    return problems


def _check_outputs(stack: Stack, model: Model, rows: Rows, listed: dict[str, str]) -> list[str]:
    problems = []
    output = list(csv.reader(io.StringIO(stack.bucket.read("output.csv").decode())))
    if output[1:] != [[user_id, *map(str, person), image or ""] for user_id, (person, image) in rows.items()]:
        problems.append("output.csv is not what the table has")
    expected = model.rejected(listed)
    rejected = {(key, code) for key, code in stack.sql("select object, code from rejected")}
    mirrored = {(line["object"], line["code"]) for line in _read(stack, "rejected.csv")}
    if rejected != expected or mirrored != expected:
        problems.append(f"rejected differs: {sorted(rejected ^ expected)}, its mirror: {sorted(mirrored ^ expected)}")
    erased = {user_id for (user_id,) in stack.sql("select user_id from erased")}
    if wrong := model.wrong_tombstones(erased, rows):
        problems.append(f"tombstones are wrong: {sorted(wrong)}")
    if {line["user_id"] for line in _read(stack, "erased.csv")} != erased:
        problems.append("erased.csv is not what the table has")
    return problems


def _read(stack: Stack, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(stack.bucket.read(name).decode())))


def people(stack: Stack) -> dict[str, dict[str, Any]]:
    """What an exact copy of the table is, as /changes serves it."""
    rows = stack.sql(
        "select row_to_json(one) from "
        "(select id, user_id, first_name, last_name, birthdate, birthts, img_path from users) as one"
    )
    return {person["user_id"]: person for (person,) in rows}
