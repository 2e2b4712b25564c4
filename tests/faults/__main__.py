"""Inject faults at random moments while Rollcall is in use, and check its responses, tables and outputs.

python3 tests/faults [--injections N] [--seed S] [--json FILE] [--libfaketime FILE]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path


def main(arguments: list[str]) -> int:
    from tests.faults.figures import current_commit
    from tests.faults.trial import LONG, Trial

    parser = argparse.ArgumentParser(prog="tests/faults")
    parser.add_argument(
        "--injections", type=int, default=500, metavar="N", help="number of faults (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), metavar="S")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to a file")
    parser.add_argument(
        "--libfaketime",
        type=Path,
        metavar="FILE",
        help="path of the shared library in the PyPI package libfaketime; clock faults require it",
    )
    options = parser.parse_args(arguments)
    if options.libfaketime and not options.libfaketime.is_file():
        parser.error(f"--libfaketime: {options.libfaketime} is not a file")
    commit = current_commit() if options.json else ""  # now: a git error after the trial would lose its results
    os.environ["SCHEDULE"] = "0 0 29 2 *"  # 29 February: practically no scheduled runs
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="rollcall-faults-", ignore_cleanup_errors=True) as directory:
        trial = Trial(Path(directory) / "state", options.seed, LONG, options.libfaketime)
        figures = trial.run(options.injections)
    print(f"\n{figures.table(trial.calls.ended)}\n\n{figures.totals}")
    if figures.settle_times:
        longest = max(figures.settle_times)
        print(f"after each round, every replica of process-data had a run that ended `done` within {longest:.1f} s")
    for kind, reason in figures.skipped.items():
        print(f"skipped: {kind}: {reason}")
    for problem in figures.problems:
        print(f"PROBLEM: {problem}")
    if options.json:
        figures.write(options.json, trial.calls.ended, commit)
    return int(bool(figures.problems))


if __name__ == "__main__":
    if __package__:
        sys.exit(main(sys.argv[1:]))
    root = Path(__file__).resolve().parents[2]
    requirements = [root / "infra/local/requirements.txt", root / "tests/requirements.txt"]
    command = [root / "infra/local/environment.py", *requirements, "--", "-m", "tests.faults", *sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, *map(str, command)])
