"""A log entry is one line of JSON that fits the watchdog's buffer."""

import io
import json
import sys
from pathlib import Path

import pytest
from process_data.shared.log import log
from process_data.shared.version import VERSION


def test_a_log_line_is_bounded_and_in_ascii(capfd: pytest.CaptureFixture[str]) -> None:
    log(
        "info",
        "request",
        path="\U0001f600" * 100_000,
        key="a\x9b31mż\n",
        call_id=None,
        added=0,
        output={"rows": 1},
        at=Path("x"),
    )
    line = capfd.readouterr().err
    assert line.isascii()
    assert line.count("\n") == 1
    assert len(line) < 64 * 1024 / 2  # the buffer holds 64 KiB, and an entry may have several long strings
    fields = json.loads(line)
    assert fields == {
        "level": "info",
        "event": "request",
        "path": "\U0001f600" * 2000,
        "key": "a\x9b31mż\n",
        "added": 0,
        "output": {"rows": 1},
        "at": "x",
        "version": VERSION,
    }


def test_a_line_is_written_in_a_single_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the lines of two threads could mix."""
    writes: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            writes.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Stream())
    log("info", "request")
    assert [json.loads(line)["event"] for line in writes] == ["request"]
