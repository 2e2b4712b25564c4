"""Checks of the tables and the outputs while nothing changes."""

import csv
import io

from tests.faults.calls import Calls
from tests.faults.model import Model, Person
from tests.faults.subject import Subject
from tests.stack import Stack

Rows = dict[str, tuple[Person, str | None]]
"""By user_id: the person and the img_path."""


def find_problems(subject: Subject, model: Model, calls: Calls) -> list[str]:
    """Check the tables and the outputs. Return all problems, and make the rows the model's new baseline.

    The last run must have ended `done`.
    """
    stack = subject.stack
    table = stack.sql("select user_id, first_name, last_name, birthts, img_path from users order by user_id")
    rows: Rows = {user_id: ((first, last, birth), image) for user_id, first, last, birth, image in table}
    source = stack.settings["source_bucket"]
    listed = {
        str(item.object_name): str(item.etag).strip('"')
        for item in stack.bucket.client.list_objects(bucket_name=source, recursive=True)
    }
    problems = model.differences(listed, rows)
    if len(rows) != len(table):
        problems.append("the table users has duplicates")
    problems += _check_outputs(stack, model, rows, listed)
    [[hints]] = stack.sql("select count(*) from hints")
    if hints:
        problems.append(f"{hints} hints remain")
    summary = calls.run(subject.slots_of("process-data")[0])
    if summary is None:
        problems.append("a further run failed")
    elif (
        any(summary[name] for name in ("added", "updated", "images_changed"))
        or summary["output"]["written"]
        or summary["status"] != "done"
    ):
        problems.append(f"a further run changed something or ended partial: {summary}")
    model.set_baseline(rows)
    return problems


def _check_outputs(stack: Stack, model: Model, rows: Rows, listed: dict[str, str]) -> list[str]:
    problems = []
    output = list(csv.reader(io.StringIO(stack.bucket.read("output.csv").decode())))
    if output[1:] != [[user_id, *map(str, person), image or ""] for user_id, (person, image) in rows.items()]:
        problems.append("output.csv does not match the table")
    expected = model.rejected(listed)
    rejected = {(key, code) for key, code in stack.sql("select object, code from rejected")}
    exported = {(row["object"], row["code"]) for row in _read(stack, "rejected.csv")}
    if rejected != expected or exported != expected:
        differences = f"{sorted(rejected ^ expected)} in the table, {sorted(exported ^ expected)} in rejected.csv"
        problems.append(f"rejections are missing or unexpected: {differences}")
    erased = {user_id for (user_id,) in stack.sql("select user_id from erased")}
    if wrong := model.wrong_tombstones(erased, rows):
        problems.append(f"tombstones are wrong: {sorted(wrong)}")
    if {row["user_id"] for row in _read(stack, "erased.csv")} != erased:
        problems.append("erased.csv does not match the table")
    return problems


def _read(stack: Stack, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(stack.bucket.read(name).decode())))
