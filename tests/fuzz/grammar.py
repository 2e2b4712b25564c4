"""Generates valid and nearly valid CSVs from a seed, like those that people, spreadsheets and scripts write."""

from collections.abc import Iterator
from itertools import permutations
from random import Random

from tests.naive_csv import COLUMNS, EARLIEST

_HEADERS = (
    *permutations(COLUMNS),
    COLUMNS[:2],
    (*COLUMNS, "birthts"),
    (*COLUMNS, "email"),
    ("first_name", "first_name", "birthts"),
    ("First_Name", "last_name", "birthts"),
    ("first_name", "last_name", "birthts", ""),
    ("first_name", "first_name", "last_name", "birthts"),
    ("first_name", "last name", "birthts"),
    ("vorname" * 9, "last_name", "birthts"),
)
_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "aé漢😀 '-.",  # this and the one above are ordinary
    'ab",; \t',
    "a\r\n",
    "a\u200b\u2028\u2029\u202e\u3000\ufeff\ufffd\U0010ffff",
)
_CONTROL = "\x00\x01\x08\t\n\x0b\x0c\r\x1b\x1c\x1f\x7f\x80\x85\x9f"
_NOT_CONTROL = " ~\xa0\xad"  # characters next to the control characters, and the soft hyphen
_LENGTHS = (0, 1, 1, 2, 3, 5, 8, 12, 20, 39, 40, 41, 120, 199, 200, 201, 202)
_LINE_ENDS = ("\n", "\n", "\r\n", "\r\n", "\r")
_SPACES = ("", "", " ", " ", "\t", " \t ")
_BLANK_LINES = ("", "", "", "", " ", "\t", '""', " ,")
_BEGINNINGS = (*[""] * 40, *["\ufeff"] * 12, "\ufeff\ufeff", "\0")
_PIECES = (
    b'"', b'""', b",", b"\n", b"\r", b"\r\n", b" ", b"\t", b"\0", b"\x0b", b"\xc2\x85", b"\xef\xbb\xbf",
    b"\xff", b"\xe2", b"\xed\xa0\x80", b"\xc0\xaf",  # invalid UTF-8; the last two: a surrogate, an overlong encoding
)  # fmt: skip


def files(seed: int, now: int) -> Iterator[bytes]:
    """Yield an endless sequence of files. Some births are close to `now`, in milliseconds UTC."""
    random = Random(seed)
    while True:
        body = _file(random, now).encode()
        yield _damage(random, body) if random.random() < 0.25 else body


def _file(random: Random, now: int) -> str:
    header = random.choice(_HEADERS[:6] if random.random() < 0.95 else _HEADERS)  # the first 6 are valid
    rows = 1 if random.random() < 0.93 else random.choice((0, 2, 3))
    lines = [",".join(_format_value(random, column) for column in header)]
    lines += [_row(random, header, now) for _ in range(rows)]
    if random.random() < 0.01:
        lines = []
    if random.random() < 0.2:
        lines.insert(random.randrange(len(lines) + 1), random.choice(_BLANK_LINES))
    end = random.choice(_LINE_ENDS)
    return random.choice(_BEGINNINGS) + end.join(lines) + random.choice(("", end, end, end * 2))


def _row(random: Random, header: tuple[str, ...], now: int) -> str:
    values = [_birth(random, now) if column == "birthts" else _name(random) for column in header]
    if random.random() < 0.04:
        values = random.choice((values[:-1], [*values, ""], [*values, "0"]))
    return ",".join(_format_value(random, value) for value in values)


def _format_value(random: Random, value: str) -> str:
    """Return the value as a CSV field, randomly with quotes and surrounding spaces."""
    needs_quotes = any(character in value for character in '",\r\n')
    if random.random() < (0.95 if needs_quotes else 0.3):
        value = '"' + value.replace('"', '""') + '"'
    if random.random() < 0.3:
        value = random.choice(_SPACES) + value + random.choice(_SPACES)
    if random.random() < 0.01:
        value = random.choice(("\xa0", "x", '"', " '")) + value + random.choice(("\xa0", "x", '"', " \x1f"))
    return value


def _name(random: Random) -> str:
    ordinary = random.random() < 0.85
    alphabet = _ALPHABETS[1 if random.random() < 0.3 else 0] if ordinary else random.choice(_ALPHABETS)
    length = random.randint(1, 12) if ordinary else random.choice(_LENGTHS)
    name = "".join(random.choices(alphabet, k=length))
    if random.random() < 0.06:  # only one, so that a parser must check every character
        at = random.randrange(length + 1)
        name = name[:at] + random.choice(_CONTROL + _NOT_CONTROL) + name[at:]
    return name


def _birth(random: Random, now: int) -> str:
    if random.random() < 0.85:
        return str(random.randint(EARLIEST, now))
    number = random.choice((0, EARLIEST, now, -now, 10**17, 10**18 - 1, 10**18, 2**63)) + random.randint(-1, 1)
    template = random.choice(
        ("{}", "{}", "{:+}", "{:018}", "{:019}", "{:_}", "{}.0", "{:e}", "--{}", "0x{:x}", "{}\x1f", "١{}", "")
    )
    return template.format(number)


def _damage(random: Random, body: bytes) -> bytes:
    """Return the body after one to three random edits."""
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(body) + 1)
        piece = random.choice(_PIECES) if random.random() < 0.8 else bytes([random.randrange(256)])
        body = body[:at] + random.choice((piece, b"", piece)) + body[at + random.choice((0, 1, 1, 5)) :]
    return body
