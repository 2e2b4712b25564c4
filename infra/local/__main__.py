"""`python3 infra/local`: run the command line in its own virtual environment."""

import os
import sys
from pathlib import Path

if __package__:
    from .cli import main

    sys.exit(main(sys.argv[1:]))
else:
    here = Path(__file__).resolve().parent
    arguments = [here / "environment.py", here / "requirements.txt", "--", "-P", "-m", "infra.local", *sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, *map(str, arguments)])  # noqa: S606 - no shell is needed
