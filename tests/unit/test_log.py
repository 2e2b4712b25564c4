"""Log lines are JSON, one each, and no longer than a watchdog reads."""

import json

import pytest
from process_data.shared.log import log


def test_a_line_is_bounded_and_plain_ascii(capfd: pytest.CaptureFixture[str]) -> None:
    log("info", "request", path="x" * 100_000, key="a\x9b31mż\n", call_id=None)
    line = capfd.readouterr().err
    assert line.isascii()
    assert line.count("\n") == 1
    assert len(line) < 64 * 1024 / 4
    told = json.loads(line)
    assert told.keys() == {"level", "event", "path", "key", "version"}
    assert told["key"] == "a\x9b31mż\n"
