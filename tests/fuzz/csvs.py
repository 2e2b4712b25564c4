"""Compares process-data's parser with the naive one, tests/naive_csv.py, on generated files."""

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from process_data.parse import Row
from process_data.rejections import Reason, Rejection

from tests.fuzz.grammar import files
from tests.naive_csv import Person, read
from tests.parsing import MODIFIED, parse

NOW = int(MODIFIED.timestamp() * 1000)

_BATCH = 500  # files, as in process-data
_MAX_QUOTED = 40  # characters of a file that a message may quote
_MAX_MESSAGE = _MAX_QUOTED * len(r"\U0010ffff") + 160  # each quoted character may be escaped; 160 for the rest
_LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")


def fuzz(inputs: int, seed: int) -> Iterator[str]:
    """Generate files, parse them in batches, and yield findings."""
    generated = islice(files(seed, NOW), inputs)
    while batch := list(islice(generated, _BATCH)):
        yield from problems(batch)


def problems(bodies: Sequence[bytes]) -> list[str]:
    """Parse a batch with both parsers. Return the findings, each with the file."""
    bodies_by_key = {f"{number}.csv": body for number, body in enumerate(bodies)}
    try:
        parsed = parse(bodies_by_key.items(), NOW)
    except Exception as error:  # noqa: BLE001 - any exception is a finding
        if len(bodies) == 1:
            return [f"{error!r}: {bodies[0]!r}"]
        single_file_problems = [problem for body in bodies for problem in problems([body])]
        return single_file_problems or [f"{error!r}, but only for these files together: {list(bodies)!r}"]
    outcomes: dict[str, Row | Rejection] = {row.key: row for row in parsed.valid}
    outcomes |= {rejection.object: rejection for rejection in parsed.rejections}
    if len(parsed.valid) + len(parsed.rejections) != len(bodies) or outcomes.keys() != bodies_by_key.keys():
        counts = f"{len(bodies)} files gave {len(parsed.valid)} rows and {len(parsed.rejections)} rejections"
        return [f"{counts}: {list(bodies)!r}"]
    return [f"{problem}: {body!r}" for key, body in bodies_by_key.items() if (problem := _problem(body, outcomes[key]))]


def _problem(body: bytes, outcome: Row | Rejection) -> str | None:
    expected = read(body, NOW)
    if isinstance(outcome, Row):
        person = Person(outcome.first_name, outcome.last_name, outcome.birthts)
        return None if person == expected else f"accepted as {person}, not {expected}"
    if isinstance(expected, Person):
        return f"rejected as {outcome}, not {expected}"
    line = outcome.line or 0
    if not any(outcome.code == code and first <= line <= last for code, first, last in expected):
        return f"rejected as {outcome}, not for {expected}"
    if (outcome.retry_after is not None) != (outcome.code is Reason.IN_THE_FUTURE):
        return f"unexpected retry_after {outcome.retry_after}"
    return _problem_of_message(outcome.message, body)


def _problem_of_message(message: str, body: bytes) -> str | None:
    if not message.isprintable() or not 0 < len(message) <= _MAX_MESSAGE:
        return f"invalid message: {message!r}"
    text = body.decode(errors="replace")
    for literal in _LITERAL.findall(message):
        if len(ast.literal_eval(literal).removesuffix("…")) > _MAX_QUOTED:
            return f"the message quotes more than {_MAX_QUOTED} characters: {message!r}"
        message = message.replace(literal, "")
    if any(message[at : at + _MAX_QUOTED + 1] in text for at in range(len(message) - _MAX_QUOTED)):
        return f"the message contains more than {_MAX_QUOTED} characters of the file outside quotes: {message!r}"
    return None
