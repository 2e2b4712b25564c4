"""Compare a function with the bare work (its "baseline") or with other tools, or draw the results.

python3 tests/benchmarks process|query [NAME...] [--rounds N] [--json FILE]
python3 tests/benchmarks peers [--people N] [--rounds N] [--json FILE]
python3 tests/benchmarks charts FILE.json...
"""

import os
import sys
from importlib import import_module
from pathlib import Path

SUBJECTS = {"process": "process", "query": "query", "peers": "peers.compare", "charts": "charts"}
"""The modules by the name of their command."""


def main(arguments: list[str]) -> None:
    subject, *options = arguments or [""]
    if subject not in SUBJECTS:
        sys.exit(f"usage: python3 tests/benchmarks {'|'.join(SUBJECTS)} [ARGUMENT...]")
    if __package__:
        from tests.packages import assemble_packages

        assemble_packages()
        os.environ["SCHEDULE"] = "0 0 29 2 *"  # disable the schedule
        sys.exit(import_module(f"tests.benchmarks.{SUBJECTS[subject]}").main(options))
    else:
        root = Path(__file__).resolve().parents[2]
        requirements = [root / "infra/local/requirements.txt", root / "tests/requirements.txt"]
        command = [root / "infra/local/environment.py", *requirements, "--", "-m", "tests.benchmarks", *arguments]
        os.execv(sys.executable, [sys.executable, *map(str, command)])


if __name__ == "__main__":
    main(sys.argv[1:])
