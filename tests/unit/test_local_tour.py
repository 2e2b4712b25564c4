"""What the demo prints about a run, and which users it requests."""

from typing import Any

import pytest

from infra.local.demo import tour
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


def show(**changes: Any) -> str:
    lines: list[str] = []
    _show_summary(summary(**changes), lines.append)
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("written", "pending", "expected"),
    [(True, False, "3 rows, written"), (False, True, "3 rows, pending"), (False, False, "3 rows, unchanged")],
)
def test_the_demo_distinguishes_written_pending_and_unchanged_exports(
    written: bool, pending: bool, expected: str
) -> None:
    output = {"object": "res/output.csv", "rows": 3, "written": written, "pending": pending}
    assert expected in show(output=output)


def test_the_demo_says_that_a_partial_run_continues() -> None:
    assert "continues in the background" in show(status="partial", continued=True)
    assert "continues" not in show()


def test_the_demo_requests_only_the_users_that_it_shows_and_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    urls: list[str] = []
    lines: list[str] = []

    def respond(_http: object, method: str, url: str, _say: object) -> dict[str, Any]:
        urls.append(url)
        user = dict.fromkeys(tour._COLUMNS, "x")
        return summary() if method == "POST" else {"result": [user] * 5, "count": 7}

    monkeypatch.setattr(tour, "_request", respond)
    tour.call_functions("http://gateway", None, lines.append)
    assert urls[1].endswith("&limit=5&count=1")
    assert "  7 people; the first 5:" in lines
