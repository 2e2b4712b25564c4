"""A second, naive parser of a user's CSV, which follows the README's rules and reads one character after another.

It shares no code with process-data's parser, and the tests compare the two. process-data's parser reports one violation
per file. This one checks in stages: bytes, quoting, structure, values. It stops after the first stage with a violation,
and reports every rule that is violated in that stage (`wrong_field_count` only if there is exactly one row).
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

COLUMNS = ("first_name", "last_name", "birthts")
EARLIEST = -3_786_825_600_000  # 1850-01-01 UTC
SPACES = " \t"

_LINE_ENDS = ("\n", "\r", "\r\n")
_ENDS = ("", ",", *_LINE_ENDS)
"""What may follow a value; an empty string stands for the end of the text."""


class Person(NamedTuple):
    """`birthts` is in milliseconds UTC."""

    first_name: str
    last_name: str
    birthts: int


class Violation(NamedTuple):
    """The code of a violated rule, and the range of lines in which it is violated, counted from 1."""

    code: str
    first_line: int
    last_line: int


class _BadQuoting(Exception):
    def __init__(self, first_line: int, last_line: int) -> None:
        super().__init__()
        self.violation = Violation("bad_quoting", first_line, last_line)


@dataclass
class _Row:
    first_line: int
    last_line: int
    values: list[str] = field(default_factory=list)


def read(body: bytes, now: int) -> Person | set[Violation]:
    """Return the person in a file, or its violations. `now` is in milliseconds UTC."""
    if violations := set(_violations_in_bytes(body)):
        return violations
    try:
        rows = [row for row in _Reader(body.decode().removeprefix("\ufeff")).rows() if row.values != [""]]
    except _BadQuoting as error:
        return {error.violation}
    if not rows:
        return {Violation("empty", 1, 1)}
    header, *data_rows = rows
    violations = set(_violations_in_structure(header, data_rows))
    if violations:
        return violations
    [row] = data_rows
    first_name, last_name, birthts = (row.values[header.values.index(column)] for column in COLUMNS)
    codes = {*_violations_in_name(first_name), *_violations_in_name(last_name), *_violations_in_birth(birthts, now)}
    if codes:
        return {Violation(code, row.first_line, row.last_line) for code in codes}
    return Person(first_name, last_name, int(birthts))


def _violations_in_bytes(body: bytes) -> Iterator[Violation]:
    if b"\0" in body:
        line = _line_after(body[: body.index(b"\0")])
        yield Violation("nul_byte", line, line)
    try:
        body.decode()
    except UnicodeDecodeError as error:
        line = _line_after(body[: error.start])
        yield Violation("not_utf8", line, line)


def _line_after(prefix: bytes) -> int:
    """Return the line number of the byte after `prefix`."""
    return 1 + prefix.count(b"\n") + prefix.count(b"\r") - prefix.count(b"\r\n")


def _violations_in_structure(header: _Row, data_rows: list[_Row]) -> Iterator[Violation]:
    for column in COLUMNS:
        if column not in header.values:
            yield Violation("missing_column", header.first_line, header.last_line)
        if header.values.count(column) > 1:
            yield Violation("repeated_column", header.first_line, header.last_line)
    if set(header.values) - set(COLUMNS):
        yield Violation("unknown_column", header.first_line, header.last_line)
    if not data_rows:
        yield Violation("no_row", header.last_line + 1, header.last_line + 1)
    if len(data_rows) > 1:
        yield Violation("several_rows", data_rows[1].first_line, data_rows[1].last_line)
    if len(data_rows) == 1 and len(data_rows[0].values) != len(header.values):
        yield Violation("wrong_field_count", data_rows[0].first_line, data_rows[0].last_line)


def _violations_in_name(name: str) -> Iterator[str]:
    if not name.strip():
        yield "empty_value"
    if len(name) > 200:
        yield "too_long"
    if "Cc" in map(unicodedata.category, name):
        yield "control_character"


def _violations_in_birth(text: str, now: int) -> Iterator[str]:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not text:
        yield "empty_value"
    elif not 1 <= len(digits) <= 18 or set(digits) - set("0123456789"):
        yield "not_an_integer"
    elif int(text) < EARLIEST:
        yield "too_early"
    elif int(text) > now:
        yield "in_the_future"


class _Reader:
    """Reads the text once, and strips spaces and tabs around values."""

    def __init__(self, text: str) -> None:
        self._characters, self._at, self._line = re.findall(r"\r\n|.", text, re.DOTALL), 0, 1

    def rows(self) -> Iterator[_Row]:
        while self._next:
            row = _Row(self._line, self._line, [self._value()])
            while self._next == ",":
                self._advance()
                row.values.append(self._value())
            row.last_line = self._line
            self._advance()  # past the end of the line
            yield row

    @property
    def _next(self) -> str:
        """The next character, where CR LF counts as one; empty at the end of the text."""
        return self._characters[self._at] if self._at < len(self._characters) else ""

    def _advance(self) -> str:
        character = self._next
        self._at += 1
        self._line += character in _LINE_ENDS
        return character

    def _value(self) -> str:
        self._skip_spaces()
        value = self._quoted_value() if self._next == '"' else self._plain_value()
        return value.strip(SPACES)

    def _skip_spaces(self) -> None:
        while self._next and self._next in SPACES:
            self._advance()

    def _plain_value(self) -> str:
        start = self._at
        while self._next not in _ENDS:
            self._at += 1
        return "".join(self._characters[start : self._at])

    def _quoted_value(self) -> str:
        first_line, value = self._line, ""
        self._advance()
        while True:
            if not self._next:
                raise _BadQuoting(first_line, self._line)
            character = self._advance()
            if character != '"':
                value += character
            elif self._next == '"':
                value += self._advance()
            else:
                break
        self._skip_spaces()
        if self._next not in _ENDS:
            raise _BadQuoting(first_line, self._line)
        return value
