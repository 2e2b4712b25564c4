"""Fuzz the functions: python3 tests/fuzz [TARGET...] [--inputs N] [--seed S] [--json FILE]

A finding is any behaviour that the documentation does not allow. The exit status is 1 if there are findings.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    if __package__:
        from tests.packages import assemble_packages

        assemble_packages()
        from tests.fuzz.command import main

        sys.exit(main(sys.argv[1:]))
    root = Path(__file__).resolve().parents[2]
    requirements = [root / directory / "requirements.txt" for directory in ("infra/local", "tests", "tests/fuzz")]
    command = [root / "infra/local/environment.py", *requirements, "--", "-m", "tests.fuzz", *sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, *map(str, command)])
