"""`python3 infra/local up`: the command line, inside its own environment."""

import os
import sys
from pathlib import Path

if __package__:
    from .cli import main

    sys.exit(main(sys.argv[1:]))
else:
    here = Path(__file__).resolve().parent
    words = [here / "environment.py", here / "requirements.txt", "--", "-P", "-m", "infra.local", *sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, *map(str, words)])  # noqa: S606 - no shell is wanted
