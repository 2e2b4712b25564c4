"""What the first-run demo says about a run, whatever its outcome."""

from typing import Any

import pytest

from infra.local.demo.tour import _show_summary


def summary(**changes: Any) -> dict[str, Any]:
    counts = dict.fromkeys(
        ("listed", "added", "updated", "unchanged", "images_changed", "ignored", "rejected", "unreadable"), 0
    )
    output = {"object": "res/output.csv", "rows": 3, "written": False, "pending": False}
    seconds = {"total": 1.0}
    return {"status": "done", **counts, "rejections": [], "continued": False, "output": output, "seconds": seconds} | (
        changes
    )


def said(**changes: Any) -> str:
    lines: list[str] = []
    _show_summary(summary(**changes), lines.append)
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("written", "pending", "expected"),
    [(True, False, "3 rows, written"), (False, True, "3 rows, pending"), (False, False, "3 rows, unchanged")],
)
def test_an_export_that_is_behind_is_not_called_unchanged(written: bool, pending: bool, expected: str) -> None:
    output = {"object": "res/output.csv", "rows": 3, "written": written, "pending": pending}
    assert expected in said(output=output)


def test_it_says_that_an_incomplete_run_goes_on() -> None:
    assert "continues in the background" in said(status="partial", continued=True)
    assert "continues" not in said()
