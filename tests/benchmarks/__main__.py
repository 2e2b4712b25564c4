"""Compare a function with a baseline or with other tools, or draw the results.

A baseline is the unavoidable part of the work alone, the function itself under other conditions (such as fewer users or
one replica), or a fixed value.

python3 tests/benchmarks process|query [NAME...] [--rounds N] [--json FILE]
python3 tests/benchmarks peers [--people N] [--rounds N] [--json FILE]
python3 tests/benchmarks charts FILE.json... [--directory DIR]
"""

from __future__ import annotations  # older versions of Python must get as far as environment.py, which rejects them

import os
import sys
from importlib import import_module
from pathlib import Path

COMMANDS = {"process": "process", "query": "query", "peers": "peers.compare", "charts": "charts"}
"""The module of each command."""


def main(arguments: list[str]) -> None:
    command, *options = arguments or [""]
    if command not in COMMANDS:
        sys.exit(f"usage: python3 tests/benchmarks {'|'.join(COMMANDS)} [ARGUMENT...]")
    if __package__:
        from tests.packages import assemble_packages

        assemble_packages()
        os.environ["SCHEDULE"] = "0 0 29 2 *"  # 29 February: practically no scheduled runs
        sys.exit(import_module(f"tests.benchmarks.{COMMANDS[command]}").main(options))
    else:
        root = Path(__file__).resolve().parents[2]
        requirements = [root / "infra/local/requirements.txt", root / "tests/requirements.txt"]
        environment = root / "infra/local/environment.py"
        argv = [sys.executable, environment, *requirements, "--", "-m", "tests.benchmarks", *arguments]
        os.execv(sys.executable, [str(argument) for argument in argv])


if __name__ == "__main__":
    main(sys.argv[1:])
