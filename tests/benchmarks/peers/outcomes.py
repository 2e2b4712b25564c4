"""The outcome of importing each file of tests/data alone."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from tests.benchmarks.peers.importer import Importer
from tests.samples import Sample, samples
from tests.stack import Stack


class Outcome(StrEnum):
    """What became of a file, judged by the rules of the README."""

    LOADED = "loaded correctly"
    REJECTED = "rejected with a reason"
    OMITTED = "omitted silently"
    WRONG = "wrong row stored silently"
    FAILED = "whole run failed"


@dataclass(frozen=True)
class Finding:
    outcome: Outcome
    message: str


def findings(stack: Stack, importer: Importer, kind: str, number: int | None = None) -> dict[str, Finding]:
    """Return the findings by sample name, for the first `number` samples (default: all) of a kind, `good` or `bad`."""
    return {sample.name: _finding(stack, importer, sample, kind) for sample in samples(kind)[:number]}


def _finding(stack: Stack, importer: Importer, sample: Sample, kind: str) -> Finding:
    key = sample.key or "1.csv"
    stack.bucket.clear()
    stack.bucket.put(key, sample.body)
    importer.reset()
    try:
        importer.run()
    except Exception as error:  # noqa: BLE001 - any error of a peer
        return Finding(Outcome.FAILED, str(error))
    people = importer.people()
    expected = (
        key.removesuffix(".csv"),
        *(sample.expected.get(name) for name in ("first_name", "last_name", "birthts")),
    )
    if kind == "good" and people == [expected]:
        return Finding(Outcome.LOADED, "")
    if people:
        return Finding(Outcome.WRONG, repr(people))
    rejections = importer.rejections()
    return Finding(Outcome.REJECTED if rejections else Outcome.OMITTED, "; ".join(rejections))


def table(by_importer: dict[str, dict[str, dict[str, Finding]]]) -> str:
    """Return a table of the number of files by importer, kind and outcome."""
    lines = [f"{'files':<22}" + "".join(f"{outcome:>26}" for outcome in Outcome)]
    for importer, kinds in by_importer.items():
        for kind, by_sample in kinds.items():
            counts = Counter(finding.outcome for finding in by_sample.values())
            lines.append(f"{importer + ', ' + kind:<22}" + "".join(f"{counts[outcome]:>26}" for outcome in Outcome))
    return "\n".join(lines)
