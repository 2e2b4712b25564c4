"""The results of a trial, as a table and as JSON."""

import json
import platform
import statistics
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.calls import EXPECTED_ERRORS, NO_RESPONSE, Call
from tests.stack import ROOT

SUCCEEDED = {"done", "partial", "complete", "continued", "no_photo"}
FAILED_SAFELY = "503"
CUT = "cut"  # a truncated response, which the client detected
OTHER = "other"  # reported as a problem: a wrong response or an unexpected error

_COLUMNS = ("succeeded", CUT, FAILED_SAFELY, NO_RESPONSE, OTHER)


@dataclass(frozen=True)
class Injection:
    """An injected fault. `group` is the row of the table that counts it.

    `started_at` and `ended_at` are times on the monotonic clock. `recovery` is the recovery time in seconds, which
    faults injected at the same time share.
    """

    kind: str
    group: str
    started_at: float
    ended_at: float
    recovery: float


@dataclass
class Figures:
    """The results of a trial.

    `settle_times` are the seconds from the end of each round until every replica of process-data had a run that ended
    `done`.
    """

    seed: int
    settings: dict[str, Any]
    skipped: dict[str, str]
    injections: list[Injection] = field(default_factory=list)
    settle_times: list[float] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def rows(self, calls: Sequence[Call], key: Callable[[Injection], str]) -> list[dict[str, Any]]:
        """Return one row for each value of `key`."""
        return [self._row(name, key, calls) for name in sorted({key(injection) for injection in self.injections})]

    def _row(self, name: str, key: Callable[[Injection], str], calls: Sequence[Call]) -> dict[str, Any]:
        injections = [injection for injection in self.injections if key(injection) == name]
        concurrent = [
            call
            for call in calls
            if any(call.started_at < i.ended_at and call.ended_at > i.started_at for i in injections)
        ]
        outcomes = Counter(_column(call.outcome) for call in concurrent)
        recoveries = [injection.recovery for injection in injections]
        return {
            "fault": name,
            "injected": len(injections),
            "calls": len(concurrent),
            "outcomes": dict(outcomes.most_common()),
            "longest_response": round(max((call.seconds for call in concurrent), default=0), 1),
            "recovery_median": round(statistics.median(recoveries), 1),
            "recovery_longest": round(max(recoveries), 1),
        }

    def table(self, calls: Sequence[Call]) -> str:
        """Return a Markdown table: a row for each group of faults, a column for each kind of outcome that occurred."""
        rows = self.rows(calls, lambda injection: injection.group)
        columns = [name for name in _COLUMNS if any(name in row["outcomes"] for row in rows)]
        header = ["fault", "injected", "calls during it", *columns, "longest response", "recovery: median, longest"]
        lines = [header, ["---"] * len(header)]
        lines += [
            [
                row["fault"],
                str(row["injected"]),
                str(row["calls"]),
                *(str(row["outcomes"].get(name, 0)) for name in columns),
                f"{row['longest_response']} s",
                f"{row['recovery_median']} s, {row['recovery_longest']} s",
            ]
            for row in rows
        ]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def document(self, calls: Sequence[Call], commit: str) -> dict[str, Any]:
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit,
            "platform": platform.platform(),
            "seed": self.seed,
            "injections": len(self.injections),
            "settings": self.settings,
            "kinds": self.rows(calls, lambda injection: injection.kind),
            "groups": self.rows(calls, lambda injection: injection.group),
            "skipped": self.skipped,
            "settle_times": [round(seconds, 1) for seconds in self.settle_times],
            "totals": self.totals,
            "problems": self.problems,
        }

    def write(self, path: Path, calls: Sequence[Call], commit: str) -> None:
        path.write_text(json.dumps(self.document(calls, commit), indent=2) + "\n", encoding="utf-8")


def current_commit() -> str:
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _column(outcome: str) -> str:
    if outcome in SUCCEEDED:
        return "succeeded"
    if outcome in (CUT, NO_RESPONSE):
        return outcome
    return FAILED_SAFELY if outcome in EXPECTED_ERRORS else OTHER
