"""Rollcall compared with other tools, its peers, on the same servers.

    python3 tests/benchmarks peers [--people N] [--rounds N] [--json FILE]

The peers are installed into a separate environment. Times are medians of the rounds. A ratio is a system's time
divided by Rollcall's: above 1, Rollcall is faster.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from infra.local.environment import prepare
from tests.benchmarks.fixtures import fill_bucket
from tests.benchmarks.measure import Measurements, machine
from tests.benchmarks.peers.cost import costs
from tests.benchmarks.peers.importer import Importer
from tests.benchmarks.peers.importers import importers
from tests.benchmarks.peers.outcomes import Finding, findings, table
from tests.benchmarks.peers.readers import readers
from tests.million import fill
from tests.stack import Stack, running

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
REQUESTS = 100
ROLLCALL = "Rollcall"


@dataclass
class Comparison:
    """Seconds by system, one value per round."""

    work: str
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, system: str, value: float) -> None:
        self.seconds.setdefault(system, []).append(value)

    def __str__(self) -> str:
        measurements = {
            system: Measurements(tuple(1000 * value for value in values), "ms")
            for system, values in self.seconds.items()
        }
        rollcall = measurements[ROLLCALL].median
        return "\n".join(
            f"{self.work:<40} {system:<14} {values!s:>34} {values.median / rollcall:>8.2f}"
            for system, values in measurements.items()
        )


def imports(stack: Stack, systems: Sequence[Importer], people: int, rounds: int) -> list[Comparison]:
    fill_bucket(stack, people, people // 2)
    load, rerun = Comparison(f"first load of {people:,} users"), Comparison(f"unchanged re-run of {people:,} users")
    for _ in range(rounds):
        for system in systems:
            system.reset()
            load.add(system.name, system.run())
            rerun.add(system.name, system.run())
            assert len(system.people()) == people, system.name
    return [load, rerun]


def reads(stack: Stack, python: Path, people: int, rounds: int, requests: int = REQUESTS) -> list[Comparison]:
    stack.reset_tables()
    fill(stack, people)
    comparisons = {
        name: Comparison(f"{work} of {people:,} users")
        for name, work in (("page", "page of 100"), ("lookup", "lookup of one"), ("download", "download as CSV"))
    }
    with readers(stack, python, requests) as systems:
        for _ in range(rounds):
            for system in systems:
                measures: dict[str, Callable[[], float]] = {
                    "page": system.page,
                    "lookup": system.lookup,
                    "download": system.download,
                }
                for name, measure in measures.items():
                    comparisons[name].add(system.name, measure())
    return list(comparisons.values())


def compare(
    stack: Stack, python: Path, people: int, rounds: int, samples: int | None = None, requests: int = REQUESTS
) -> dict[str, Any]:
    """Measure and print everything. Return the results for the JSON file.

    `samples` limits the number of files of each kind, good or bad.
    """
    outcomes: dict[str, dict[str, dict[str, Finding]]] = {}
    with importers(stack, python) as systems:
        comparisons = imports(stack, systems, people, rounds)
        for system in systems:
            outcomes[system.name] = {kind: findings(stack, system, kind, samples) for kind in ("good", "bad")}
    all_costs = costs(stack, people)
    comparisons += reads(stack, python, people, rounds, requests)
    print(f"{'work':<40} {'system':<14} {'time':>34} {'ratio':>8}", *comparisons, sep="\n")
    print(f"\nFiles of tests/data:\n{table(outcomes)}")
    print(f"\nPer million objects, scaled up from {all_costs[0].objects:,}:", *all_costs, sep="\n")
    return {
        "people": people,
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "outcomes": {
            name: {
                kind: {sample: asdict(finding) for sample, finding in by_sample.items()}
                for kind, by_sample in kinds.items()
            }
            for name, kinds in outcomes.items()
        },
        "costs": [cost.to_json() for cost in all_costs],
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests/benchmarks peers")
    parser.add_argument("--people", type=int, default=1000, help="users to load, and users to query (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind of work (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to a file")
    options = parser.parse_args(arguments)
    python = prepare([REQUIREMENTS])
    with tempfile.TemporaryDirectory() as directory, running(Path(directory) / "state") as stack:
        document = {"machine": machine(), "peers": compare(stack, python, options.people, options.rounds)}
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0
