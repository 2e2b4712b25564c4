"""Measure a function against its ceilings.

python3 tests/benchmarks process [NAME...] [--rounds N] [--json FILE]
python3 tests/benchmarks query
"""

import os
import sys
from importlib import import_module
from pathlib import Path

SUBJECTS = ("process", "query")


def main(arguments: list[str]) -> None:
    subject, *options = arguments or [""]
    if subject not in SUBJECTS or (options and subject != "process"):
        sys.exit(f"usage: python3 tests/benchmarks {'|'.join(SUBJECTS)}")
    if __package__:
        from tests.packages import assemble_packages

        assemble_packages()
        os.environ["SCHEDULE"] = "0 0 29 2 *"  # nothing else runs meanwhile
        measure = import_module(f"tests.benchmarks.{subject}").main
        sys.exit(measure(options) if subject == "process" else measure())
    else:
        root = Path(__file__).resolve().parents[2]
        requirements = [root / "infra/local/requirements.txt", root / "tests/requirements.txt"]
        command = [root / "infra/local/environment.py", *requirements, "--", "-m", "tests.benchmarks", *arguments]
        os.execv(sys.executable, [sys.executable, *map(str, command)])


if __name__ == "__main__":
    main(sys.argv[1:])
