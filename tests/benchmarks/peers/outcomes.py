"""What an importer does with each file of tests/data, alone in the bucket."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from tests.benchmarks.peers.importer import Importer
from tests.samples import Sample, samples
from tests.stack import Stack


class Outcome(StrEnum):
    """By Rollcall's contract, which says what a person's file has to look like."""

    LOADED = "loaded rightly"
    REJECTED = "rejected with a reason"
    SKIPPED = "left out in silence"
    WRONG = "wrong row in silence"
    FAILED = "whole run failed"


@dataclass(frozen=True)
class Finding:
    outcome: Outcome
    message: str


def findings(stack: Stack, importer: Importer, kind: str, number: int | None = None) -> dict[str, Finding]:
    """By the names of the samples, `good` or `bad`: the first `number`, or all."""
    return {sample.name: _finding(stack, importer, sample, kind) for sample in samples(kind)[:number]}


def _finding(stack: Stack, importer: Importer, sample: Sample, kind: str) -> Finding:
    key = sample.key or "1.csv"
    stack.bucket.clear()
    stack.bucket.put(key, sample.body)
    importer.reset()
    try:
        importer.run()
    except Exception as error:  # noqa: BLE001 - whatever a peer fails with
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
    return Finding(Outcome.REJECTED if rejections else Outcome.SKIPPED, "; ".join(rejections))


def table(found: dict[str, dict[str, dict[str, Finding]]]) -> str:
    """By importer and kind, how many files had which outcome."""
    lines = [f"{'files':<22}" + "".join(f"{outcome:>24}" for outcome in Outcome)]
    for importer, kinds in found.items():
        for kind, by_sample in kinds.items():
            counts = Counter(finding.outcome for finding in by_sample.values())
            lines.append(f"{importer + ', ' + kind:<22}" + "".join(f"{counts[outcome]:>24}" for outcome in Outcome))
    return "\n".join(lines)
