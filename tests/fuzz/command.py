"""The command line: runs the targets, and prints their findings and a summary of each target."""

import argparse
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.fuzz import csvs, guided, keys, requests
from tests.fuzz.client import clients
from tests.stack import Stack, running

Fuzz = Callable[[int, int], Iterator[str]]
"""Takes the number of inputs and the seed, and yields findings."""

INPUTS = {
    "csv": 1_000_000,
    "guided": 200_000,
    "keys": 200_000,
    "queries": 20_000,
    "cursors": 20_000,
    "headers": 10_000,
    "events": 5_000,
}
"""The targets, and the default number of inputs of each."""

MAX_SHOWN, MAX_LENGTH = 20, 7000  # findings printed for each target, and characters of each


def targets_on_stack(stack: Stack) -> dict[str, Fuzz]:
    """Fill the stack, which must be empty, and return the targets that need servers."""
    requests.fill(stack)

    def with_clients(fuzz: requests.ClientFuzz) -> Fuzz:
        def run(inputs: int, seed: int) -> Iterator[str]:
            with clients(stack) as (process, query):
                yield from fuzz(process, query, inputs, seed)

        return run

    client_targets = {name: with_clients(fuzz) for name, fuzz in requests.TARGETS.items()}
    return {"keys": lambda inputs, seed: keys.fuzz(stack, inputs, seed), **client_targets}


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    targets: dict[str, Fuzz] = {"csv": csvs.fuzz, "guided": guided.fuzz}
    with ExitStack() as cleanup:
        if set(options.targets) - set(targets):
            os.environ["SCHEDULE"] = "0 0 29 2 *"  # 29 February: practically no scheduled runs
            state = Path(cleanup.enter_context(tempfile.TemporaryDirectory())) / "state"
            targets |= targets_on_stack(cleanup.enter_context(running(state)))
        rows = [_run(name, targets[name], options.inputs or INPUTS[name], seed) for name in options.targets]
    if options.json:
        options.json.write_text(json.dumps({"seed": seed, "targets": rows}, indent=2) + "\n", encoding="utf-8")
    return int(any(row["findings"] for row in rows))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/fuzz", description="Fuzz the functions.")
    names = ", ".join(INPUTS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {names} (default: all that can run)")
    parser.add_argument("--inputs", type=int, metavar="N", help="inputs per target (default: depends on the target)")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of an earlier run, to repeat it (default: random)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    options = parser.parse_args(arguments)
    if options.inputs is not None and options.inputs < 1:
        parser.error(f"invalid --inputs {options.inputs}: expected at least 1")
    if unknown := set(options.targets) - set(INPUTS):
        parser.error(f"unknown target {min(unknown)}; expected one of {names}")
    if "guided" in options.targets and not guided.is_available():
        parser.error("guided requires Atheris, which has no wheel for this platform")
    options.targets = options.targets or [name for name in INPUTS if name != "guided" or guided.is_available()]
    return options


def _run(name: str, fuzz: Fuzz, inputs: int, seed: int) -> dict[str, Any]:
    started_at, findings = time.monotonic(), 0
    for finding in fuzz(inputs, seed):
        findings += 1
        if findings <= MAX_SHOWN:
            print(f"{name}: {finding[:MAX_LENGTH]}", flush=True)
    row = {"target": name, "inputs": inputs, "seconds": round(time.monotonic() - started_at, 1), "findings": findings}
    print("{target:<8} {inputs:>9,} inputs {seconds:>8,} s {findings:>5} findings".format(**row), flush=True)
    return row
